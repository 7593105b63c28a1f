package crash

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"

	"lade/internal/need"
	"lade/internal/supervisor/wire"
	"lade/test/harness"
)

// keeper stands for a service manager: it keeps descriptors for the next process
// of a service.
type keeper struct {
	t    *testing.T
	conn *net.UnixConn
	mu   sync.Mutex
	kept map[string]*os.File
}

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{t: t, conn: conn, kept: map[string]*os.File{}}
	ended := make(chan struct{})
	go func() { defer close(ended); k.run() }()
	t.Cleanup(func() {
		conn.Close()
		<-ended
		for _, f := range k.kept {
			f.Close()
		}
	})
	return k
}

func (k *keeper) env() []string { return []string{"NOTIFY_SOCKET=" + k.conn.LocalAddr().String()} }

func (k *keeper) run() {
	for {
		data, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
		n, m, _, _, err := k.conn.ReadMsgUnix(data, oob)
		if err != nil {
			return // closed
		}
		said := map[string]string{}
		for line := range strings.Lines(string(data[:n])) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			said[name] = value
		}
		k.hear(said, oob[:m])
	}
}

func (k *keeper) hear(said map[string]string, oob []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	name := said["FDNAME"]
	if said["FDSTOREREMOVE"] == "1" {
		if f := k.kept[name]; f != nil {
			f.Close()
			delete(k.kept, name)
		}
	}
	if said["FDSTORE"] != "1" {
		return
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(msgs) != 1 {
		k.t.Errorf("%v came with %d messages, %v", said, len(msgs), err)
		return
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		k.t.Errorf("%v came with %v, %v", said, fds, err)
		return
	}
	unix.CloseOnExec(fds[0])
	f := os.NewFile(uintptr(fds[0]), name)
	if k.kept[name] != nil { // the same again: another supervisor has it
		f.Close()
		return
	}
	k.kept[name] = f
}

// names returns what is kept, in the order of files.
func (k *keeper) names() (names []string, files []*os.File) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, f := range k.kept {
		names, files = append(names, name), append(files, f)
	}
	return names, files
}

// start starts the next supervisor of an engine with what was kept.
func (k *keeper) start(e *harness.Engine) {
	k.t.Helper()
	names, files := k.names()
	script := fmt.Sprintf(`LISTEN_PID=$$ LISTEN_FDS=%d LISTEN_FDNAMES=%s exec "$@"`, len(files), strings.Join(names, ":"))
	cmd := exec.Command("sh", "-c", script, "sh", filepath.Join(e.Bin, "lade-supervisor"),
		"--root", filepath.Join(e.Dir, "exec"), "--init", filepath.Join(e.Bin, "lade-init"), "--foreground")
	cmd.Stdout, cmd.Stderr = k.t.Output(), k.t.Output()
	cmd.ExtraFiles, cmd.Env = files, append(os.Environ(), k.env()...)
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	go func() { _ = cmd.Wait() }() // it ends when it is killed, or the engine
	soon(k.t, func() error {
		socket, err := wire.Dial(filepath.Join(e.Dir, "exec"))
		if err != nil {
			return err
		}
		return unix.Close(socket)
	})
}

// killBoth kills daemon and supervisor at once.
func killBoth(t *testing.T, e *harness.Engine) {
	t.Helper()
	supervisor := e.Supervisor()
	e.Kill()
	if err := syscall.Kill(supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	lock, err := os.Open(filepath.Join(e.Dir, "exec", "supervisor.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	soon(t, func() error { // it goes with the last of its threads
		return unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	})
}

// TestTerminalOutlivesBoth kills daemon and supervisor at once where a service
// manager keeps what it is given: terminals, too, go on where they were.
func TestTerminalOutlivesBoth(t *testing.T) {
	k := newKeeper(t)
	e := harness.Start(t, harness.Apart()...)
	killBoth(t, e) // the first supervisor is laded's own
	k.start(e)
	e.Launch()
	img := e.Import()
	e.Run("run", "-d", "-t", "--name", "lines", img, "sh", "-c", count)
	e.Run("run", "-d", "-i", "-t", "--name", "shell", img, "sh")
	e.Run("run", "-d", "-t", "--name", "ends", img, "sh", "-c", "while [ ! -e /go ]; do usleep 10000; done")
	e.Run("run", "-t", "--name", "ended", img, "true")
	keeps := func(want int) {
		t.Helper()
		soon(t, func() error {
			if names, _ := k.names(); len(names) != want {
				return fmt.Errorf("%v are kept, not %d", names, want)
			}
			return nil
		})
	}
	keeps(3)
	pids := map[string]string{}
	for _, name := range []string{"lines", "shell", "ends"} {
		pids[name] = inspect(e, name, ".State.Pid")
	}
	at := terminal(t, e, "shell")
	converse(t, at, "echo $((50+2))\n", "52\r\n") // the supervisor has the connection by then
	e.Kill()                                      // the daemon alone: who is attached does not notice
	converse(t, at, "echo $((70+2))\n", "72\r\n")
	at.Close()
	e.Launch()
	for round := range 2 {
		last := broken(t, "before", e.Run("logs", "lines")+"\n", 4)
		killBoth(t, e)
		if round == 0 {
			release(t, pids["ends"])
		}
		k.start(e)
		e.Launch()
		for _, name := range []string{"lines", "shell"} {
			wants(t, e, name, ".State.Status", "running")
			wants(t, e, name, ".State.Pid", pids[name])
		}
		becomes(t, e, "ends", ".State.Status", "exited")
		keeps(2)
		soon(t, func() error {
			if now := broken(t, "terminal", e.Run("logs", "lines")+"\n", 4); now <= last {
				return fmt.Errorf("no line after %d", last)
			}
			return nil
		})
		typed(t, e, "shell", fmt.Sprintf("echo $((%d+2))\n", 40+round), fmt.Sprint(42+round, "\r\n"))
	}
	e.Run("rm", "-f", "lines")
	keeps(1)
	killSupervisor(t, e) // the daemon holds the other as before
	typed(t, e, "shell", "echo $((60+2))\n", "62\r\n")
}

// typed types into a container's terminal until it shows something.
func typed(t *testing.T, e *harness.Engine, name, text, want string) {
	t.Helper()
	at := terminal(t, e, name)
	defer at.Close()
	converse(t, at, text, want)
}

// terminal attaches to a container's terminal.
func terminal(t *testing.T, e *harness.Engine, name string) client.HijackedResponse {
	t.Helper()
	at, err := api(t, e).ContainerAttach(t.Context(), name, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := at.Conn.SetDeadline(time.Now().Add(need.Patience(30 * time.Second))); err != nil {
		t.Fatal(err)
	}
	return at.HijackedResponse
}

// converse types into a terminal until it shows something.
func converse(t *testing.T, at client.HijackedResponse, text, want string) {
	t.Helper()
	if _, err := at.Conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for b := make([]byte, 1024); !strings.Contains(string(got), want); {
		n, err := at.Reader.Read(b)
		if err != nil {
			t.Fatalf("%v after %q", err, got)
		}
		got = append(got, b[:n]...)
	}
}
