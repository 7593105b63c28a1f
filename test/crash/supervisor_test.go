package crash

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"lade/internal/need"
	"lade/internal/store"
	"lade/test/harness"
)

// endedAs reports whether got is the exit code of a container or an exec whose
// supervisor was killed: 255 where the kernel does not tell.
func endedAs(t *testing.T, got, want string) bool {
	t.Helper()
	return got == want || got == "255" && !need.TellsExits(t)
}

// wantsCode is wants for such an exit code.
func wantsCode(t *testing.T, e *harness.Engine, name, want string) {
	t.Helper()
	if got := inspect(e, name, ".State.ExitCode"); !endedAs(t, got, want) {
		t.Errorf("%s ended with %s, want %s", name, got, want)
	}
}

// killSupervisor kills the supervisor and waits until it is gone.
func killSupervisor(t *testing.T, e *harness.Engine) {
	t.Helper()
	pid := 0
	soon(t, func() error { // one that is just starting executes itself again
		if pid = e.Supervisor(); pid == 0 {
			return fmt.Errorf("there is no supervisor")
		}
		return nil
	})
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	soon(t, func() error {
		if alive(fmt.Sprint(pid)) {
			return fmt.Errorf("the supervisor %d does not die", pid)
		}
		return nil
	})
}

// TestSupervisorKilled kills the supervisor: with a daemon that has started
// everything, with one that was restarted and has duplicates, and several times
// in a row.
func TestSupervisorKilled(t *testing.T) { harness.EachRuntime(t, supervisorKilled) }

func supervisorKilled(t *testing.T, flags ...string) {
	for _, first := range []string{"", "daemon"} {
		t.Run("after "+first, func(t *testing.T) {
			e := harness.Start(t, flags...)
			img := e.Import()
			e.Run("run", "-d", "--name", "log", img, "sh", "-c", count)
			e.Run("run", "-d", "-i", "--name", "cat", img, "cat")
			e.Run("run", "-d", "-t", "--name", "tty", img, "sh", "-c", count)
			e.Run("run", "-d", "--name", "seven", img, "sh", "-c", "while [ ! -e /go ]; do usleep 10000; done; exit 7")
			e.Run("run", "-d", "--name", "auto", "--rm", "-v", "/anonymous", img, "sh", "-c", "while [ ! -e /go ]; do usleep 10000; done")
			e.Run("run", "-d", "--name", "frozen", img, "sleep", "1000")
			e.Run("run", "-d", "--name", "again", "--restart", "always", img, "sh", "-c", "if [ -e /go ]; then sleep 1000; fi; while [ ! -e /go ]; do usleep 10000; done; exit 3")
			e.Run("pause", "frozen")
			pids := map[string]string{}
			for _, name := range []string{"log", "seven", "auto", "frozen", "again", "cat", "tty"} {
				pids[name] = inspect(e, name, ".State.Pid")
			}
			if first == "daemon" {
				e.Kill()
				e.Launch()
			}
			under := begin(t, e, "exec", "seven", "sh", "-c", "echo ready; while [ ! -e /exec ]; do usleep 10000; done; exit 9")
			under.line(t)
			attached := begin(t, e, "attach", "cat")
			fmt.Fprintln(attached.in, "before")
			attached.line(t)
			for round := range 3 {
				killSupervisor(t, e)
				if round == 1 { // the second supervisor is killed as soon as it is there
					killSupervisor(t, e)
				}
				for name, pid := range pids {
					if !alive(pid) {
						t.Fatalf("round %d: %s has ended", round, name)
					}
				}
				if got := e.Run("exec", "log", "echo", "hi"); got != "hi" {
					t.Errorf("exec: %q", got)
				}
			}
			for name, pid := range pids {
				wants(t, e, name, ".State.Pid", pid)
			}
			wants(t, e, "frozen", ".State.Status", "paused")
			last := broken(t, "logs", e.Run("logs", "log")+"\n", 4)
			soon(t, func() error {
				if now := broken(t, "logs", e.Run("logs", "log")+"\n", 4); now <= last {
					return fmt.Errorf("no line after %d", last)
				}
				return nil
			})
			cat := begin(t, e, "attach", "cat")
			fmt.Fprintln(cat.in, "after")
			if got := cat.line(t); got != "after" {
				t.Errorf("attached: %q", got)
			}
			last = broken(t, "terminal", e.Run("logs", "tty")+"\n", 4)
			soon(t, func() error {
				if now := broken(t, "terminal", e.Run("logs", "tty")+"\n", 4); now <= last {
					return fmt.Errorf("no line after %d", last)
				}
				return nil
			})
			waiting := begin(t, e, "wait", "seven")
			stopping := begin(t, e, "stop", "-t", "1", "log")
			time.Sleep(100 * time.Millisecond)
			killSupervisor(t, e) // while a wait and a stop are under way
			release(t, pids["seven"])
			release(t, pids["auto"])
			release(t, pids["again"])
			if got := waiting.line(t); !endedAs(t, got, "7") {
				t.Errorf("wait: %s %s", got, waiting.errOut.String())
			}
			if got := stopping.line(t); got != "log" {
				t.Errorf("stop: %s %s", got, stopping.errOut.String())
			}
			wantsCode(t, e, "log", "137")
			wantsCode(t, e, "seven", "7")
			gone(t, e, "auto")
			becomes(t, e, "again", ".State.Status", "running")
			becomes(t, e, "again", ".RestartCount", "1")
			e.Run("unpause", "frozen")
			wants(t, e, "frozen", ".State.Status", "running")
			e.Run("kill", "frozen")
			wantsCode(t, e, "frozen", "137")
			if got := e.Run("volume", "ls", "-q"); got != "" {
				t.Errorf("the anonymous volume stays: %s", got)
			}
		})
	}
}

// TestExecAdopted lets execs end while no supervisor is there and after it.
func TestExecAdopted(t *testing.T) { harness.EachRuntime(t, execAdopted) }

func execAdopted(t *testing.T, flags ...string) {
	e := harness.Start(t, flags...)
	img := e.Import()
	e.Run("run", "-d", "--name", "one", img, "sleep", "1000")
	e.Run("exec", "-d", "one", "sh", "-c", "echo $$ >/pid; while [ ! -e /go ]; do usleep 10000; done; exit 9")
	pid := inspect(e, "one", ".State.Pid")
	soon(t, func() error {
		_, err := os.Stat("/proc/" + pid + "/root/pid")
		return err
	})
	id := strings.Trim(inspect(e, "one", "json .ExecIDs"), `[]"`)
	killSupervisor(t, e)
	e.Run("exec", "one", "touch", "/go") // waits for the next supervisor
	c := api(t, e)
	soon(t, func() error {
		x, err := c.ExecInspect(t.Context(), id, noExecOptions)
		if err != nil || x.Running || !endedAs(t, fmt.Sprint(x.ExitCode), "9") {
			return fmt.Errorf("exec: %+v, %v", x, err)
		}
		return nil
	})
}

// TestBothKilled kills daemon and supervisor at once.
func TestBothKilled(t *testing.T) { harness.EachRuntime(t, bothKilled) }

func bothKilled(t *testing.T, flags ...string) {
	e := harness.Start(t, flags...)
	img := e.Import()
	port := harness.FreePort(t)
	e.Run("run", "-d", "--name", "web", "-p", port+":80", img, "sh", "-c", "mkdir /www; echo here >/www/page; exec httpd -f -p 80 -h /www")
	e.Run("run", "-d", "--name", "busy", img, "sh", "-c", "sleep 1000 & while [ ! -e /go ]; do usleep 10000; done; exit 7")
	e.Run("run", "-d", "--name", "shared", "--pid", "host", img, "sh", "-c", "sleep 1001 & while [ ! -e /go ]; do usleep 10000; done; exit 6")
	e.Run("run", "-d", "--name", "ended", img, "sh", "-c", "while [ ! -e /go ]; do usleep 10000; done; exit 5")
	e.Run("run", "-d", "--name", "auto", "--rm", img, "sh", "-c", "while [ ! -e /go ]; do usleep 10000; done; exit 4")
	e.Run("run", "-d", "--name", "again", "--restart", "on-failure", img, "sh", "-c", "if [ -e /go ]; then sleep 1000; fi; while [ ! -e /go ]; do usleep 10000; done; exit 3")
	e.Run("run", "-d", "--name", "frozen", img, "sleep", "1000")
	e.Run("pause", "frozen")
	e.Run("exec", "-d", "busy", "sleep", "1002")
	pids := map[string]string{}
	for _, name := range []string{"web", "busy", "shared", "ended", "auto", "again", "frozen"} {
		pids[name] = inspect(e, name, ".State.Pid")
	}
	soon(t, func() error { return answers(port) })

	supervisor := e.Supervisor()
	if err := syscall.Kill(supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	e.Kill()
	if err := answers(port); err != nil {
		t.Errorf("while nobody is there: %v", err)
	}
	for _, name := range []string{"ended", "auto", "again"} {
		release(t, pids[name])
	}

	e.Launch()
	for _, name := range []string{"web", "busy", "shared"} {
		wants(t, e, name, ".State.Status", "running")
		wants(t, e, name, ".State.Pid", pids[name])
	}
	wants(t, e, "frozen", ".State.Status", "paused")
	wants(t, e, "ended", ".State.Status", "exited")
	wants(t, e, "ended", ".State.ExitCode", "255") // nobody was there to see it
	gone(t, e, "auto")
	becomes(t, e, "again", ".State.Status", "running")
	if err := answers(port); err != nil {
		t.Errorf("after the restart: %v", err)
	}
	if got := e.Run("exec", "busy", "echo", "hi"); got != "hi" {
		t.Errorf("exec: %q", got)
	}
	killSupervisor(t, e) // once more, with what is held since
	e.Run("unpause", "frozen")
	release(t, pids["busy"])
	release(t, pids["shared"])
	if got := e.Run("wait", "busy"); !endedAs(t, got, "7") {
		t.Errorf("wait: %s", got)
	}
	if got := e.Run("wait", "shared"); !endedAs(t, got, "6") {
		t.Errorf("wait: %s", got)
	}
	e.Run("stop", "-t", "0", "frozen")
	wantsCode(t, e, "frozen", "137")
	// The harness looks for control groups, and so for what still runs in them.
}

// TestUnknownProcess kills a container that runs and of which there is no
// record.
func TestUnknownProcess(t *testing.T) { harness.EachRuntime(t, unknownProcess) }

func unknownProcess(t *testing.T, flags ...string) {
	for _, both := range []bool{false, true} {
		t.Run(fmt.Sprintf("both=%v", both), func(t *testing.T) {
			e := harness.Start(t, flags...)
			img := e.Import()
			e.Run("run", "-d", "--name", "one", img, "sleep", "1000")
			pid := inspect(e, "one", ".State.Pid")
			supervisor := e.Supervisor()
			e.Kill()
			if both {
				if err := syscall.Kill(supervisor, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			forget(t, e, "containers")
			e.Launch()
			if got := e.Run("ps", "-aq"); got != "" {
				t.Errorf("containers: %s", got)
			}
			soon(t, func() error {
				if alive(pid) {
					return fmt.Errorf("process %s runs", pid)
				}
				return nil
			})
		})
	}
}

// forget deletes the records of a bucket. The daemon must not run.
func forget(t *testing.T, e *harness.Engine, bucket store.Bucket) {
	t.Helper()
	s, err := store.Open(e.Dir+"/data/records", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var b store.Batch
	for key := range s.Walk(bucket) {
		b.Delete(bucket, key)
	}
	if err := s.Commit(t.Context(), &b); err != nil {
		t.Errorf("remove the records: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close the store: %v", err)
	}
}
