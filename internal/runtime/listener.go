package runtime

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/linux/pidfd"
	"lade/internal/linux/sys"
	"lade/internal/program"
)

// Listener says who answers the system calls that a filter hands over
// (SCMP_ACT_NOTIFY).
//
// Source: OCI runtime-spec, config-linux.md, "The Container Process State".
type Listener struct {
	// Path is an AF_UNIX stream socket of the host, on which somebody listens.
	Path     string
	Metadata string
	// State is the container's. The process number is filled in when it is the
	// container's first process.
	State specs.State
}

// listener passes the descriptor that seccomp(2) returns on to a Listener:
//
//	child ──seccomp fd──► socket pair ──► goroutine ──state, fd──► Listener.Path
//
// The child cannot do it alone: it does not know its own process number. It
// goes on at once; its calls that the filter hands over wait for their answer.
type listener struct {
	*Listener
	peer   int // connected with Path
	ours   int
	theirs int
	at     uint64 // where the child has its end
	done   chan error
	// guarded says that it comes from the first child of a guard, and the process
	// number from the second, which never has it: a process of the container that
	// took it from there could answer for the agent.
	guarded bool
}

// listenerTime is how long a Listener may keep a start waiting.
const listenerTime = 10 * time.Second

// listen connects with a Listener. Errors: *StartError.
func (b *builder) listen(l *Listener) error {
	if l == nil {
		return nil
	}
	fail := func(err error) error {
		return &StartError{Code: codeFailed, Op: "unable to connect to the seccomp listener", Path: l.Path, Errno: errnoOf(err)}
	}
	peer, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return sys.Error("socket", l.Path, err)
	}
	b.own(peer)
	limit := unix.NsecToTimeval(int64(listenerTime))
	if err := unix.SetsockoptTimeval(peer, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		return sys.Error("setsockopt", "SO_SNDTIMEO", err)
	}
	if err := sys.Retry(func() error { return unix.Connect(peer, &unix.SockaddrUnix{Name: l.Path}) }); err != nil {
		return fail(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return sys.Error("socketpair", "", err)
	}
	b.own(pair[0])
	b.own(pair[1])
	if err := unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return sys.Error("setsockopt", "SO_PASSCRED", err)
	}
	b.listener = &listener{Listener: l, peer: peer, ours: pair[0], theirs: pair[1]}
	return nil
}

// keepListener moves the child's end to where it stays until execve, and
// returns the first number that does not.
func (b *builder) keepListener(socket ref, at uint64) uint64 {
	b.sys("dup3", "seccomp listener", unix.SYS_DUP3, socket, at, unix.O_CLOEXEC)
	b.listener.at = at
	return at + 1
}

// sendListener sends the result of o, a descriptor, to our side.
func (b *builder) sendListener(o program.Op) {
	b.stage("unable to pass the seccomp listener on", "")
	b.send(o, b.p.Space(1), b.listener.at)
}

// introduce tells our side the process number, in a message of its own.
func (b *builder) introduce() {
	b.stage("unable to pass the seccomp listener on", "")
	body := b.p.Space(1)
	message := b.p.Words(0, 0, b.p.Words(program.Address(body), uint64(len(body))), 1, 0, 0, 0)
	b.p.Sys("sendmsg", "", unix.SYS_SENDMSG, b.listener.at, message, unix.MSG_NOSIGNAL)
}

// order is the machine's order of bytes.
var order = binary.NativeEndian

// send sends a message over a socket, and with it the descriptor that is the
// result of o.
//
// Source: cmsg(3), unix(7).
func (b *builder) send(o program.Op, body []byte, socket uint64) {
	const header = unix.SizeofCmsghdr
	control := b.p.Space(header + 8)
	order.PutUint64(control, header+4)
	order.PutUint32(control[8:], unix.SOL_SOCKET)
	order.PutUint32(control[12:], unix.SCM_RIGHTS)
	o.Store(control[header:])
	message := b.p.Words(0, 0, b.p.Words(program.Address(body), uint64(len(body))), 1, program.Address(control), uint64(len(control)), 0)
	b.p.Sys("sendmsg", "", unix.SYS_SENDMSG, socket, message, unix.MSG_NOSIGNAL)
}

// run runs the program, and passes its listener on meanwhile: execve itself may
// be a call that waits for an answer.
func (b *builder) run(ctx context.Context, o program.Options, id string) (program.Result, error) {
	b.listener.forward()
	r, err := b.l.run(ctx, b.p, o, id)
	failed := b.forwarded()
	if failed == nil {
		return r, err
	}
	if err == nil {
		b.l.discard(r)
	}
	return r, failed
}

// forward begins to wait for the child's listener.
func (l *listener) forward() {
	if l == nil {
		return
	}
	l.done = make(chan error, 1)
	go func() { l.done <- l.pass() }()
}

// forwarded waits until the listener was passed on, or cannot come any more.
func (b *builder) forwarded() error {
	l := b.listener
	if l == nil || l.done == nil {
		return nil
	}
	b.release(l.theirs)
	err := <-l.done
	l.done = nil
	return err
}

// pass receives the child's listener and sends it on. If that fails the child
// would wait for ever: it is killed.
func (l *listener) pass() error {
	fd, pid, err := l.receive()
	if err != nil || pid == 0 {
		return err
	}
	defer sys.CloseAll(fd)
	if fd < 0 {
		return unix.EBADMSG
	}
	if l.guarded {
		more := -1
		more, pid, err = l.receive()
		sys.CloseAll(more)
		if err != nil || pid == 0 {
			return err
		}
	}
	if err := l.send(fd, pid); err != nil {
		failed := &StartError{Code: codeFailed, Op: "unable to pass the seccomp listener on", Path: l.Path, Errno: errnoOf(err)}
		return errors.Join(failed, end(pid))
	}
	return nil
}

// receive returns the descriptor of a message, or -1, and who has sent it; 0
// means that nothing comes any more: the child has failed, which is told
// elsewhere.
func (l *listener) receive() (fd, pid int, err error) {
	control := make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4))
	var n, cn int
	err = sys.Retry(func() (err error) {
		n, cn, _, _, err = unix.Recvmsg(l.ours, make([]byte, 1), control, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	if err != nil {
		return -1, 0, sys.Error("recvmsg", "seccomp listener", err)
	}
	if n == 0 {
		return -1, 0, nil
	}
	return received(control[:cn])
}

// received takes a message's descriptor and its sender apart.
func received(control []byte) (fd, pid int, err error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return -1, 0, sys.Error("recvmsg", "seccomp listener", err)
	}
	fd = -1
	for _, m := range messages {
		if fds, err := unix.ParseUnixRights(&m); err == nil && len(fds) == 1 {
			fd = fds[0]
		}
		if c, err := unix.ParseUnixCredentials(&m); err == nil {
			pid = int(c.Pid)
		}
	}
	if pid <= 0 {
		sys.CloseAll(fd)
		return -1, 0, unix.EBADMSG
	}
	return fd, pid, nil
}

// send tells the Listener of the process, in one message as the specification
// wants it. A socket that takes nothing any more is a failure: SIGPIPE is not.
func (l *listener) send(fd, pid int) error {
	state := l.State
	if state.Pid == 0 {
		state.Pid = pid
	}
	body, err := json.Marshal(specs.ContainerProcessState{
		Version: specs.Version, Fds: []string{specs.SeccompFdName}, Pid: pid, Metadata: l.Metadata, State: state,
	})
	if err != nil {
		return err
	}
	n, err := unix.SendmsgN(l.peer, body, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL)
	for err == nil && n < len(body) {
		var more int
		more, err = unix.SendmsgN(l.peer, body[n:], nil, nil, unix.MSG_NOSIGNAL)
		n += more
	}
	return err
}

// end kills a child of this process, which is not reaped yet.
func end(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return sys.Error("pidfd_open", "", err)
	}
	defer sys.CloseAll(fd)
	return pidfd.Signal(fd, unix.SIGKILL)
}
