package runtime

import (
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/linux/pidfd"
	"lade/internal/linux/seccomp"
	"lade/internal/linux/sys"
	"lade/internal/need"
)

// notifying is a profile that hands over mkdirat and execve.
func notifying(t *testing.T, path string) (code []byte, flags uint) {
	t.Helper()
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: path, Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv},
		Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdirat", "mkdir", "execve"}, Action: specs.ActNotify}}}
	code, err := seccomp.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	if flags, err = seccomp.Flags(p); err != nil {
		t.Fatal(err)
	}
	return code, flags
}

// The structures of seccomp_unotify(2).
type (
	seccompNotif struct {
		id         uint64
		pid, flags uint32
		nr         int32
		arch       uint32
		ip         uint64
		args       [6]uint64
	}
	seccompResp struct {
		id    uint64
		val   int64
		error int32
		flags uint32
	}
)

const (
	notifRecv = 0xc0502100 // SECCOMP_IOCTL_NOTIF_RECV
	notifSend = 0xc0182101 // SECCOMP_IOCTL_NOTIF_SEND
	goOn      = 1          // SECCOMP_USER_NOTIF_FLAG_CONTINUE
)

// agent answers what one container's filter hands over: execve may go on, all
// else is EXDEV.
type agent struct {
	t     *testing.T
	path  string
	state chan specs.ContainerProcessState
	calls chan seccompNotif
}

func newAgent(t *testing.T) *agent {
	t.Helper()
	a := &agent{t: t, path: filepath.Join(t.TempDir(), "agent"), state: make(chan specs.ContainerProcessState, 4), calls: make(chan seccompNotif, 16)}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: a.path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	need.Serve(t, l, a.serve)
	return a
}

func (a *agent) serve(c *net.UnixConn) {
	body, control := make([]byte, 8192), make([]byte, 256)
	n, cn, _, _, err := c.ReadMsgUnix(body, control)
	if err != nil || n == 0 {
		return // a start that failed before
	}
	messages, err := unix.ParseSocketControlMessage(control[:cn])
	if err != nil || len(messages) != 1 {
		a.t.Errorf("control messages %v, %v", messages, err)
		return
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		a.t.Errorf("descriptors %v, %v", fds, err)
		return
	}
	defer unix.Close(fds[0])
	var s specs.ContainerProcessState
	if err := json.Unmarshal(body[:n], &s); err != nil {
		a.t.Error(err)
		return
	}
	a.state <- s
	for {
		// Level-triggered: POLLHUP when the last process with the filter has ended.
		p := []unix.PollFd{{Fd: int32(fds[0]), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, -1); err == unix.EINTR {
			continue
		} else if err != nil || p[0].Revents&unix.POLLIN == 0 {
			return
		}
		var q seccompNotif
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fds[0]), notifRecv, uintptr(unsafe.Pointer(&q))); errno != 0 {
			continue
		}
		r := seccompResp{id: q.id, error: -int32(unix.EXDEV)}
		if q.nr == unix.SYS_EXECVE {
			r = seccompResp{id: q.id, flags: goOn}
		}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fds[0]), notifSend, uintptr(unsafe.Pointer(&r)))
		if errno == 0 {
			a.calls <- q
		}
	}
}

func (a *agent) received() specs.ContainerProcessState {
	a.t.Helper()
	select {
	case s := <-a.state:
		return s
	case <-time.After(need.Patience(30 * time.Second)):
		a.t.Fatal("the listener got no state")
	}
	return specs.ContainerProcessState{}
}

// TestListener hands calls over to an agent: in a start and in an exec, with and
// without no_new_privs, execve among them.
func TestListener(t *testing.T) {
	for _, nnp := range []bool{false, true} {
		s, a := newSandbox(t), newAgent(t)
		code, flags := notifying(t, a.path)
		c := s.container("try", "mkdir=/tmp/made", "getpid=")
		c.Spec.Process.NoNewPrivileges = nnp
		c.Filter, c.FilterFlags = code, flags
		c.Listener = &Listener{Path: a.path, Metadata: "about it", State: specs.State{Version: specs.Version, ID: c.ID, Status: specs.StateCreating}}
		out, exit := s.run(c)
		if exit != 0 || !strings.Contains(out, "mkdir=/tmp/made: error mkdir /tmp/made: invalid cross-device link") {
			t.Errorf("no_new_privs %v: %d, %s", nnp, exit, out)
		}
		got := a.received()
		if got.Version != specs.Version || len(got.Fds) != 1 || got.Fds[0] != specs.SeccompFdName || got.Metadata != "about it" ||
			got.Pid <= 1 || got.State.Pid != got.Pid || got.State.ID != c.ID || got.State.Status != specs.StateCreating {
			t.Errorf("state %+v", got)
		}
		if q := <-a.calls; q.nr != unix.SYS_EXECVE || int(q.pid) != got.Pid {
			t.Errorf("first call %+v, of process %d", q, got.Pid)
		}

		c = s.container("sleep")
		r, err := s.start(c)
		if err != nil {
			t.Fatal(err)
		}
		proc := *c.Spec.Process
		proc.NoNewPrivileges, proc.Args = nnp, []string{payload, "try", "mkdir=/tmp/made"}
		for _, traced := range []bool{false, true} {
			out, exit = s.exec(r, &Exec{Process: &proc, Filter: code, FilterFlags: flags, Traced: traced,
				Listener: &Listener{Path: a.path, State: specs.State{ID: c.ID, Status: specs.StateRunning, Pid: r.Pid}}})
			if exit != 0 || !strings.Contains(out, "invalid cross-device link") {
				t.Errorf("exec, no_new_privs %v, traced %v: %d, %s", nnp, traced, exit, out)
			}
			got := a.received()
			if got.Pid == r.Pid || got.State.Pid != r.Pid {
				t.Errorf("state of the exec %+v", got)
			}
			for its := false; !its; {
				select {
				case q := <-a.calls:
					its = int(q.pid) == got.Pid && q.nr == unix.SYS_EXECVE
				case <-time.After(need.Patience(30 * time.Second)):
					t.Fatalf("traced %v: no call of process %d, of which the agent was told", traced, got.Pid)
				}
			}
		}
	}
}

// TestListenerCreate passes the listener on before the container is started.
func TestListenerCreate(t *testing.T) {
	s, a := newSandbox(t), newAgent(t)
	c := s.container("exit", "7")
	c.Filter, c.FilterFlags = notifying(t, a.path)
	c.Listener = &Listener{Path: a.path, State: specs.State{ID: c.ID}}
	var fifo [2]int
	if err := unix.Pipe2(fifo[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fifo[1])
	p, err := s.l.Create(t.Context(), c, fifo[0])
	unix.Close(fifo[0])
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p.Pidfd)
	if got := a.received(); got.Pid != p.Pid {
		t.Errorf("state %+v of process %d", got, p.Pid)
	}
	if _, err := unix.Write(fifo[1], []byte{0}); err != nil {
		t.Fatal(err)
	}
	if code, _, err := pidfd.Wait(p.Pidfd); code != 7 || err != nil {
		t.Errorf("exit %d, %v", code, err)
	}
	if err := p.Cgroup.Delete(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestListenerMissing fails the start when nobody listens, or nobody takes what
// is sent: no process waits for an answer for ever.
func TestListenerMissing(t *testing.T) {
	s := newSandbox(t)
	c := s.container("exit", "0")
	path := filepath.Join(t.TempDir(), "nobody")
	c.Filter, c.FilterFlags = notifying(t, path)
	c.Listener = &Listener{Path: path}
	if _, err := s.start(c); !errors.Is(err, unix.ENOENT) {
		t.Errorf("no listener: %v", err)
	}
	for name, leave := range map[string]func(*net.UnixConn){
		"at once": func(c *net.UnixConn) {},
		"with the descriptor": func(c *net.UnixConn) {
			control := make([]byte, unix.CmsgSpace(4))
			_, n, _, _, err := c.ReadMsgUnix(make([]byte, 1<<16), control)
			if err != nil {
				t.Error(err)
			}
			messages, _ := unix.ParseSocketControlMessage(control[:n])
			for _, m := range messages {
				fds, _ := unix.ParseUnixRights(&m)
				sys.CloseAll(fds...)
			}
		},
	} {
		t.Run(name, func(t *testing.T) { startLeft(t, s, c, path, leave) })
	}
}

// startLeft starts a container with an agent that accepts and leaves. Whether it
// has got the descriptor by then or not, nobody answers: execve fails.
func startLeft(t *testing.T, s *sandbox, c *Container, path string, leave func(*net.UnixConn)) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		if c, err := l.AcceptUnix(); err == nil {
			leave(c)
			c.Close()
		}
		l.Close()
	}()
	if p, err := s.start(c); err == nil {
		_, _, _ = pidfd.Wait(p.Pidfd)
		t.Error("a container started whose listener is gone")
	}
	<-closed
}
