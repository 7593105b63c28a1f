package conformance

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"lade/internal/need"
	"lade/test/harness"
)

// client is a library or a program that knows Docker's API, and goes through
// it with an engine of lade. What it checks it tells in TAP.
type client struct {
	name    string
	version func(*testing.T) string
	command func(*testing.T) *exec.Cmd
}

// programs are the clients that are libraries, each in a program of its own
// below clients/.
var programs = []client{
	{"python3-docker", debianVersion("python3-docker"), pythonProgram},
	{"dockerode", nodeVersion, nodeProgram},
	{"moby/client", pins("github.com/moby/moby/client"), goProgram("moby")},
	{"go-dockerclient", pins("github.com/fsouza/go-dockerclient"), goProgram("fsouza")},
	{"testcontainers-go", pins("github.com/testcontainers/testcontainers-go"), goProgram("testcontainers")},
}

// TestClients runs each client, and keeps the table of docs/compatibility.md.
func TestClients(t *testing.T) {
	full(t)
	var all results
	for _, c := range programs {
		t.Run(c.name, func(t *testing.T) { all.add(c.name, c.version(t), runProgram(t, c)) })
	}
	all.publish(t, page)
}

// TestPython is that one of the clients which starts at once, for every run of
// the tests.
func TestPython(t *testing.T) {
	need.Root(t)
	if os.Getenv("LADE_CONFORMANCE") != "" {
		t.Skip("TestClients runs it")
	}
	runProgram(t, programs[0])
}

// runProgram runs a client against an engine of its own; each check that fails
// is an error.
func runProgram(t *testing.T, c client) tally {
	t.Helper()
	e := harness.Start(t, harness.Apart()...)
	ctx, cancel := context.WithTimeout(t.Context(), need.Patience(5*time.Minute))
	defer cancel()
	cmd := c.command(t)
	bounded := exec.CommandContext(ctx, cmd.Path, cmd.Args[1:]...)
	bounded.Dir, bounded.Env, bounded.WaitDelay = cmd.Dir, cmd.Env, time.Second
	bounded.Env = append(e.Command("lade").Env, append(cmd.Env, "IMAGE=lade/hello", "NET="+subnet())...)
	e.Run("run", "--rm", "lade/hello", "true") // makes the image
	out, err := bounded.CombinedOutput()
	got := count(string(out))
	if err != nil || got.fail > 0 || got.pass == 0 {
		t.Errorf("%v, %d checks failed\n%s", err, got.fail, out)
	}
	return got
}

func pythonProgram(t *testing.T) *exec.Cmd {
	// Debian's, whatever others there are: its modules are for no other.
	need.File(t, "/usr/lib/python3/dist-packages/docker", "Debian's python3-docker")
	cmd := exec.Command("/usr/bin/python3", "main.py")
	cmd.Dir, cmd.Env = filepath.Join("clients", "python"), []string{"PYTHONDONTWRITEBYTECODE=1"}
	return cmd
}

// goProgram builds one of the programs below clients/.
func goProgram(name string) func(*testing.T) *exec.Cmd {
	return func(t *testing.T) *exec.Cmd {
		path := filepath.Join(t.TempDir(), name)
		goBuild(t, "-o", path, "./"+name)
		cmd := exec.Command(path)
		cmd.Env = []string{"TESTCONTAINERS_RYUK_DISABLED=true"} // its image is on Docker Hub
		return cmd
	}
}

func nodeProgram(t *testing.T) *exec.Cmd {
	cmd := exec.Command(need.Program(t, "node", "Debian's nodejs"), "main.js")
	cmd.Dir, cmd.Env = filepath.Join("clients", "node"), []string{"NODE_MODULES=" + nodeModules(t)}
	return cmd
}

// debianVersion asks dpkg for the version of a package.
func debianVersion(name string) func(*testing.T) string {
	return func(t *testing.T) string {
		out, err := exec.Command("dpkg-query", "-W", "-f", "${source:Upstream-Version}", name).Output()
		if err != nil {
			t.Fatalf("dpkg-query %s: %v", name, err)
		}
		return string(out)
	}
}
