package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"lade/internal/need"
	"lade/test/harness"
)

// started counts scripts.
var started atomic.Int32

// engine is the key of a script's engine.
type engine struct{}

// TestScripts runs testdata/*.txt with $CLI as lade and as docker. Each script
// has an engine of its own.
func TestScripts(t *testing.T) {
	need.Root(t)
	for _, cli := range []string{"lade", "docker"} {
		t.Run(cli, func(t *testing.T) {
			t.Parallel()
			scripts(t, "testdata", cli, "own")
		})
	}
}

// TestSame runs testdata/same/*.txt, where `both` runs one command line with
// lade and with docker and compares all that can be seen of it.
func TestSame(t *testing.T) {
	need.Root(t)
	need.Program(t, "docker", "Debian's docker-cli")
	scripts(t, filepath.Join("testdata", "same"), "lade", "own")
}

// scripts runs a directory's scripts. The conditions [runtime:NAME] and
// [client:NAME] hold for the given name of the runtime that their containers have,
// and for the client that runs them.
func scripts(t *testing.T, dir, cli, runtime string, flags ...string) {
	bin := harness.Bin(t)
	path := filepath.Join(bin, cli)
	if cli == "docker" {
		path = need.Program(t, "docker", "Debian's docker-cli")
	}
	testscript.RunT(serial{t}, testscript.Params{
		Dir:  dir,
		Cmds: commands,
		Condition: func(cond string) (bool, error) {
			switch what, name, _ := strings.Cut(cond, ":"); what {
			case "runtime":
				return name == runtime, nil
			case "client":
				return name == cli, nil
			}
			return false, errors.New("no such condition")
		},
		Setup: func(env *testscript.Env) error {
			e := harness.Start(env.T().(serial).T, slices.Concat(flags, harness.Apart())...)
			env.Values[engine{}] = e
			env.Setenv("CLI", path)
			env.Setenv("NAME", cli)
			env.Setenv("DOCKER_HOST", "unix://"+e.Socket)
			env.Setenv("LADE_HOST", "unix://"+e.Socket)
			env.Setenv("LADE_AUTOSTART", "0")
			env.Setenv("DATA", filepath.Join(e.Dir, "data"))
			port := 20000 + (os.Getpid()*64+4*int(started.Add(1)))%10000
			for i, name := range []string{"PORT", "PORT1", "PORT2", "PORT3"} {
				env.Setenv(name, strconv.Itoa(port+i))
			}
			// Subnets of the script's own: $NET.0/24 and $NET6::/64.
			k := (port - 20000) / 4
			env.Setenv("NET", fmt.Sprintf("10.%d.%d", 100+k/250, k%250))
			env.Setenv("NET6", fmt.Sprintf("fd15:%x", k+1))
			env.Setenv("PATH", bin+":"+os.Getenv("PATH"))
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
	})
}

// serial runs the scripts of a directory one after another: two directories at a
// time keep two processors busy.
type serial struct{ *testing.T }

func (s serial) Parallel() {}

func (s serial) Verbose() bool { return testing.Verbose() }

func (s serial) Run(name string, f func(testscript.T)) {
	s.T.Run(name, func(t *testing.T) { f(serial{t}) })
}
