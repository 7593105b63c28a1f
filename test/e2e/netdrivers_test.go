package e2e

import (
	"path/filepath"
	"testing"

	"lade/internal/need"
)

// TestNetworkDrivers runs testdata/netdrivers/*.txt with engines whose default
// bridge has IPv6; none of it depends on the runtime.
func TestNetworkDrivers(t *testing.T) {
	need.Root(t)
	for _, cli := range []string{"lade", "docker"} {
		t.Run(cli, func(t *testing.T) {
			t.Parallel()
			scripts(t, filepath.Join("testdata", "netdrivers"), cli, "own", "--ipv6")
		})
	}
}
