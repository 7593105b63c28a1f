package crash

import (
	"testing"

	"lade/test/harness"
)

// TestRestartWithExecs starts a container again while the execs of its former
// life are still ending.
func TestRestartWithExecs(t *testing.T) {
	e := harness.Start(t)
	img := e.Import()
	for _, pid := range []string{"", "host"} {
		e.Run("run", "-d", "--name", "one"+pid, "--pid="+pid, img, "sleep", "1000")
		for range 10 {
			for range 5 {
				e.Run("exec", "-d", "one"+pid, "sleep", "1000")
			}
			e.Run("restart", "-t", "0", "one"+pid)
		}
	}
}
