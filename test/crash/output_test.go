package crash

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"lade/test/harness"
)

// TestOutputOutlivesBoth kills daemon and supervisor at once while containers
// write more than their pipes hold: they wait, and when the next two are there
// every line is in the log.
func TestOutputOutlivesBoth(t *testing.T) {
	all := harness.Runtimes(t)
	for _, name := range []string{"own", "runc"} { // every other is given its pipes as runc is
		t.Run(name, func(t *testing.T) { outputOutlivesBoth(t, append(all[name], harness.Apart()...)...) })
	}
}

func outputOutlivesBoth(t *testing.T, flags ...string) {
	const lines, rest = 20_000, 500 // 200 kB and more, over pipes of 64 kB
	e := harness.Start(t, flags...)
	img := e.Import()
	// A line before and, when it is told to, thousands after.
	numbered := fmt.Sprintf("echo 0; while [ ! -e /go ]; do usleep 10000; done; seq 1 %d; touch /written; while [ ! -e /end ]; do usleep 10000; done; seq %d %d; exit 7", lines, lines+1, lines+rest)
	scripts := map[string][]string{
		"stdout": {img, "sh", "-c", numbered},
		"stderr": {img, "sh", "-c", "exec >&2; " + numbered},
		// The first process has closed its streams, and left them to a child.
		"child": {img, "sh", "-c", "(" + numbered + ") & exec >/dev/null 2>&1; wait $!"},
		// Who is not root opens /dev/stdout again.
		"user": {"--user", "1234", "--tmpfs", "/run:mode=1777", img, "sh", "-c", strings.NewReplacer("/go", "/run/go", "/end", "/run/end", "/written", "/run/written").Replace("{ " + strings.Replace(numbered, "; exit 7", "; } >/dev/stdout; exit 7", 1))},
	}
	pids := map[string]string{}
	for name, args := range scripts {
		e.Run(append([]string{"run", "-d", "--name", name}, args...)...)
		pids[name] = inspect(e, name, ".State.Pid")
	}
	e.Run("run", "-d", "-i", "--name", "cat", img, "cat")
	pids["cat"] = inspect(e, "cat", ".State.Pid")
	touch := func(name, file string) {
		if name == "user" {
			file = "/run" + file
		}
		if err := os.WriteFile("/proc/"+pids[name]+"/root"+file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name := range scripts {
		soon(t, func() error {
			if got := logged(e, name); len(got) != 1 {
				return fmt.Errorf("%s has logged %q", name, got)
			}
			return nil
		})
	}

	supervisor := e.Supervisor()
	e.Kill()
	if err := syscall.Kill(supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	soon(t, func() error {
		if alive(fmt.Sprint(supervisor)) {
			return fmt.Errorf("the supervisor does not die")
		}
		return nil
	})
	for name := range scripts {
		touch(name, "/go")
	}
	e.Launch()
	for name, pid := range pids {
		wants(t, e, name, ".State.Status", "running")
		wants(t, e, name, ".State.Pid", pid)
	}
	for name := range scripts {
		touch(name, "/end")
		want := make([]string, lines+rest+1)
		for i := range want {
			want[i] = strconv.Itoa(i)
		}
		soon(t, func() error {
			if got := logged(e, name); !slices.Equal(got, want) {
				return fmt.Errorf("%s has logged %d lines, the last is %q", name, len(got), got[len(got)-1])
			}
			return nil
		})
		becomes(t, e, name, ".State.Status", "exited")
		if code := inspect(e, name, ".State.ExitCode"); !endedAs(t, code, "7") && name != "child" {
			t.Errorf("%s ended with %s", name, code)
		}
	}
	// Input, which goes on too.
	cat := begin(t, e, "attach", "cat")
	fmt.Fprintln(cat.in, "after")
	if got := cat.line(t); got != "after" {
		t.Errorf("attached: %q", got)
	}
	e.Run("kill", "cat")
}

// logged returns the lines of a container's log.
func logged(e *harness.Engine, name string) []string {
	stdout, stderr, _ := e.Try("logs", name)
	return strings.Fields(stdout + stderr)
}
