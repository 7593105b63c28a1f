package crash

import (
	"testing"

	"github.com/moby/moby/client"

	"lade/test/harness"
)

var noExecOptions client.ExecInspectOptions

// api is a client in this process.
func api(t *testing.T, e *harness.Engine) *client.Client {
	t.Helper()
	c, err := client.New(client.WithHost("unix://" + e.Socket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
