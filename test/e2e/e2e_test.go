package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"lade/internal/need"
	"lade/test/harness"
)

// TestScripts runs testdata/*.txt with $CLI as lade and as docker. Each script
// has an engine of its own.
func TestScripts(t *testing.T) {
	need.Root(t)
	bin := harness.Bin(t)
	for _, cli := range []string{"lade", "docker"} {
		t.Run(cli, func(t *testing.T) {
			path := filepath.Join(bin, cli)
			if cli == "docker" {
				path = need.Program(t, "docker", "Debian's docker-cli")
			}
			testscript.RunT(serial{t}, testscript.Params{
				Dir: "testdata",
				Setup: func(env *testscript.Env) error {
					e := harness.Start(env.T().(serial).T)
					env.Setenv("CLI", path)
					env.Setenv("NAME", cli)
					env.Setenv("DOCKER_HOST", "unix://"+e.Socket)
					env.Setenv("LADE_HOST", "unix://"+e.Socket)
					env.Setenv("LADE_AUTOSTART", "0")
					env.Setenv("DATA", filepath.Join(e.Dir, "data"))
					env.Setenv("PORT", strconv.Itoa(20000+os.Getpid()%10000))
					env.Setenv("PATH", bin+":"+os.Getenv("PATH"))
					env.Setenv("HOME", env.WorkDir)
					return nil
				},
			})
		})
	}
}

// serial runs scripts one after another: what an engine leaves behind could not
// be told from what another one has.
type serial struct{ *testing.T }

func (s serial) Parallel() {}

func (s serial) Verbose() bool { return testing.Verbose() }

func (s serial) Run(name string, f func(testscript.T)) {
	s.T.Run(name, func(t *testing.T) { f(serial{t}) })
}
