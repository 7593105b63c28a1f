package server

import (
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/logs"
	"lade/internal/runtime"
	"lade/internal/supervisor/wire"
)

// stateVariable is the environment variable that holds the number of the
// descriptor that carries the state from one program of a supervisor to the
// next.
const stateVariable = "LADE_SUPERVISOR_STATE"

// TakeState returns Options.State for a program that a supervisor has executed
// to be its successor, else 0. Harden must have been called before.
func TakeState() int {
	fd, err := strconv.Atoi(os.Getenv(stateVariable))
	if err != nil {
		return 0
	}
	_ = os.Unsetenv(stateVariable) // fails for impossible names only
	return fd
}

const (
	stateVersion = 1
	quiesceFor   = 5 * time.Second
	quiesceEvery = 2 * time.Millisecond
)

// The state that survives execve(2), as JSON in a memfd. Numbers of
// descriptors are of descriptors that stay open; -1 means none. A later version
// reads earlier ones.
type (
	state struct {
		Version    int              `json:"version"`
		Lock       int              `json:"lock"`
		Socket     int              `json:"socket"`
		Activated  bool             `json:"activated,omitempty"` // the socket is a service manager's
		Began      time.Time        `json:"began"`
		Containers []containerState `json:"containers,omitempty"`
		Streams    []streamState    `json:"streams,omitempty"` // of ended processes, with output to send
		Names      []wire.SetNames  `json:"names,omitempty"`
		Outlets    []*outletState   `json:"outlets,omitempty"` // as Streams
	}
	containerState struct {
		ID         string         `json:"id"`
		Cgroup     string         `json:"cgroup,omitempty"`
		Root       int            `json:"root,omitempty"` // 0: none
		OOMNotify  int            `json:"oom_notify"`
		OOMKills   uint64         `json:"oom_kills,omitempty"`
		OOM        bool           `json:"oom,omitempty"`
		Frozen     bool           `json:"frozen,omitempty"`
		SharedPids bool           `json:"shared_pids,omitempty"`
		Untraced   bool           `json:"untraced,omitempty"` // not said by older supervisors
		Resolver   *resolverState `json:"resolver,omitempty"`
		Processes  []processState `json:"processes"` // the first is the container's first
	}
	resolverState struct {
		Know wire.Resolver `json:"know"`
		UDP  int           `json:"udp"`
		TCP  int           `json:"tcp"`
		Asks []askState    `json:"asks,omitempty"` // over UDP, not answered yet
	}
	askState struct {
		Query []byte  `json:"query"`
		Addr  [4]byte `json:"addr"`
		Port  int     `json:"port"`
	}
	processState struct {
		Exec      string        `json:"exec,omitempty"`
		Pid       int           `json:"pid"`
		Pidfd     int           `json:"pidfd"`
		StartedAt time.Time     `json:"started_at"`
		Adopted   bool          `json:"adopted,omitempty"`
		Once      bool          `json:"once,omitempty"`
		Keep      int           `json:"keep,omitempty"`
		Kept      []byte        `json:"kept,omitempty"`
		More      bool          `json:"more,omitempty"`
		Ended     bool          `json:"ended,omitempty"` // execs remain
		Terminal  bool          `json:"terminal,omitempty"`
		Stdio     wire.Stdio    `json:"stdio"`
		Out       int           `json:"out"`
		Err       int           `json:"err"`
		In        int           `json:"in"`
		InQueue   []byte        `json:"in_queue,omitempty"`
		InLast    bool          `json:"in_last,omitempty"`
		TTY       int           `json:"tty"`
		Log       *logs.Options `json:"log,omitempty"`
		Lines     [2]logs.Line  `json:"lines"`
		Outlet    *outletState  `json:"outlet,omitempty"`
		Streams   []streamState `json:"streams,omitempty"`
	}
	streamState struct {
		FD     int    `json:"fd"`
		Stdin  bool   `json:"stdin,omitempty"`
		Stdout bool   `json:"stdout,omitempty"`
		Stderr bool   `json:"stderr,omitempty"`
		Raw    bool   `json:"raw,omitempty"`
		Keys   []byte `json:"keys,omitempty"`
		Held   int    `json:"held,omitempty"`
		Queue  []byte `json:"queue,omitempty"`
	}
)

// upgrade executes another binary once nothing is under way.
func (s *Server) upgrade(r *request, m *wire.Upgrade) error {
	binary, err := r.f.File(m.Binary)
	if err != nil {
		return err
	}
	path, err := executable()
	if err != nil {
		closeFDs(binary)
		return err
	}
	if binary >= 0 {
		path = "/proc/self/fd/" + strconv.Itoa(binary)
	}
	// Nothing new is begun: what waits in the sockets is not read.
	for c := range s.conns {
		s.poll.drop(c.fd)
	}
	s.quiesce(time.Now().Add(quiesceFor), func(err error) {
		if err == nil {
			err = s.execute(path)
		}
		s.log.Error("upgrade", "error", err)
		closeFDs(binary)
		for c := range s.conns {
			c.watch()
		}
		r.fail(err)
	})
	return nil
}

// executable returns the path that our program was started from, where another
// may be now.
func executable() (string, error) {
	path, err := runtime.Executable()
	return strings.TrimSuffix(path, " (deleted)"), err
}

// quiesce calls done when no goroutine is under way: execve(2) would end it,
// and lose the result of a start.
func (s *Server) quiesce(until time.Time, done func(error)) {
	quiet := s.starts == 0 && s.calls == 0 && len(s.waiting) == 0 && len(s.cleaning) == 0 && len(s.parting) == 0
	for _, c := range s.containers {
		quiet = quiet && c.busy == 0
	}
	switch {
	case quiet:
		done(nil)
	case time.Now().After(until):
		done(errdefs.Unavailablef("the supervisor is too busy to be upgraded"))
	default:
		s.poll.after(quiesceEvery, func() { s.quiesce(until, done) })
	}
}

// execute replaces our program. It returns only when that failed, and then
// everything is as before.
func (s *Server) execute(path string) error {
	st, fds := s.state()
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	memfd, err := unix.MemfdCreate("lade-state", unix.MFD_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(memfd), "state")
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return err
	}
	s.log.Info("executing", "binary", path, "containers", len(st.Containers))
	fds = append(fds, memfd)
	env := append(os.Environ(), stateVariable+"="+strconv.Itoa(memfd))
	err = keepOnExec(fds, true)
	if err == nil {
		err = &os.PathError{Op: "execve", Path: path, Err: unix.Exec(path, os.Args, env)}
	}
	return errors.Join(err, keepOnExec(fds, false))
}

// keepOnExec says whether descriptors survive execve(2).
func keepOnExec(fds []int, keep bool) error {
	flags := unix.FD_CLOEXEC
	if keep {
		flags = 0
	}
	for _, fd := range fds {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, flags); err != nil {
			return os.NewSyscallError("fcntl F_SETFD", err)
		}
	}
	return nil
}

// state describes everything that is to survive, and the descriptors that it
// names.
func (s *Server) state() (st state, fds []int) {
	st = state{Version: stateVersion, Lock: s.lock, Socket: s.sock, Activated: s.o.Socket != 0, Began: s.began}
	keep := func(all ...int) {
		for _, fd := range all {
			if fd >= 0 {
				fds = append(fds, fd)
			}
		}
	}
	keep(s.lock, s.sock)
	st.Names = s.names.state()
	for _, c := range s.containers {
		cs := containerState{
			ID: c.id, OOMNotify: c.oomfd, OOMKills: c.kills, OOM: c.oom, Frozen: c.frozen, SharedPids: c.sharedPids, Untraced: !c.traced,
			Processes: []processState{c.init.state()},
		}
		if c.group != nil {
			cs.Cgroup = c.group.Path()
		}
		for _, p := range c.execs {
			cs.Processes = append(cs.Processes, p.state())
		}
		keep(c.oomfd)
		if cs.Root = c.root; c.root != 0 {
			keep(c.root)
		}
		if r := c.resolver; r != nil {
			cs.Resolver = r.state()
			keep(r.udp, r.tcp)
		}
		for _, p := range cs.Processes {
			keep(p.Pidfd, p.Out, p.Err, p.TTY)
			if !p.Terminal {
				keep(p.In)
			}
			for _, client := range p.Streams {
				keep(client.FD)
			}
		}
		st.Containers = append(st.Containers, cs)
	}
	for client := range s.streams {
		if client.p == nil && !client.lingering {
			st.Streams = append(st.Streams, client.state())
			keep(client.fd)
		}
	}
	for o := range s.outlets {
		if o.p == nil {
			st.Outlets = append(st.Outlets, o.state())
		}
	}
	return st, fds
}

func (p *process) state() processState {
	ps := processState{
		Exec: p.exec, Pid: p.pid, Pidfd: p.pidfd, StartedAt: p.startedAt, Adopted: p.adopted, Once: p.once, Keep: p.keep, Kept: p.kept, More: p.more, Ended: p.ended,
		Terminal: p.terminal, Stdio: p.stdio, Out: p.out.fd, Err: p.err.fd, In: p.in.fd,
		InQueue: p.in.queue, InLast: p.in.last, TTY: p.tty,
	}
	if p.ended {
		ps.TTY = -1
	} else if p.log != nil {
		o := p.log.Options()
		ps.Log, ps.Lines = &o, p.log.Lines()
		if p.outlet != nil {
			ps.Outlet = p.outlet.state()
		}
	}
	for _, client := range p.streams {
		ps.Streams = append(ps.Streams, client.state())
	}
	return ps
}

func (st *stream) state() streamState {
	return streamState{
		FD: st.fd, Stdin: st.stdin, Stdout: st.stdout, Stderr: st.stderr, Raw: st.raw,
		Keys: st.keys.keys, Held: st.keys.have, Queue: st.queue,
	}
}

// restore goes on with what the former program left.
func (s *Server) restore(memfd int) error {
	f := os.NewFile(uintptr(memfd), "state")
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	b := make([]byte, info.Size())
	if _, err := f.ReadAt(b, 0); err != nil {
		return err
	}
	var st state
	if err := json.Unmarshal(b, &st); err != nil {
		return err
	}
	if st.Version != stateVersion {
		return errdefs.Invalidf("the state of a supervisor has version %d", st.Version)
	}
	s.lock, s.sock, s.began = st.Lock, st.Socket, st.Began
	if st.Activated {
		s.o.Socket = st.Socket
	}
	if s.poll, err = newPoller(); err != nil {
		return err
	}
	if err := s.loadExits(); err != nil {
		return err
	}
	for i := range st.Names {
		s.names.set(&st.Names[i])
	}
	fds := []int{s.lock, s.sock}
	for i := range st.Containers {
		kept, err := s.restoreContainer(&st.Containers[i])
		if err != nil {
			return err
		}
		fds = append(fds, kept...)
	}
	for _, cs := range st.Streams {
		client := s.restoreStream(cs, nil)
		client.watch()
		fds = append(fds, cs.FD)
	}
	for _, o := range st.Outlets {
		if _, err := s.restoreOutlet(nil, o); err != nil {
			s.log.Error("log", "container", o.Target.Container, "error", err)
		}
	}
	if err := keepOnExec(fds, false); err != nil {
		return err
	}
	return s.poll.set(s.sock, listener{s}, unix.EPOLLIN)
}

func (s *Server) restoreContainer(cs *containerState) (fds []int, err error) {
	c := s.newContainer(cs.ID)
	c.oomfd, c.kills, c.oom, c.frozen, c.sharedPids, c.traced = cs.OOMNotify, cs.OOMKills, cs.OOM, cs.Frozen, cs.SharedPids, !cs.Untraced
	if c.sharedPids {
		s.expectOrphans()
	}
	s.containers[c.id] = c
	if c.root = cs.Root; c.root != 0 {
		fds = append(fds, c.root)
	}
	if err := c.adoptForeign(); err != nil {
		s.log.Error("what another runtime keeps of a container", "container", c.id, "error", err)
	}
	if cs.Cgroup != "" && s.o.Cgroup != nil {
		if c.group, err = s.o.Cgroup(cs.Cgroup); err != nil {
			s.log.Error("control group", "container", c.id, "error", err)
		}
	}
	if c.oomfd >= 0 {
		fds = append(fds, c.oomfd)
		if err := s.poll.set(c.oomfd, (*oomWatch)(c), unix.EPOLLIN); err != nil {
			return fds, err
		}
	} else if c.group != nil { // it was too young to be watched
		s.poll.after(oomAfter, func() { c.watchOOM() })
	}
	if rs := cs.Resolver; rs != nil {
		if c.resolver, err = s.newResolver(c.id, &rs.Know); err != nil {
			return fds, err
		}
		fds = append(fds, rs.UDP, rs.TCP)
		c.resolver.restore(rs)
	}
	for i := range cs.Processes {
		p, kept, err := s.restoreProcess(c, &cs.Processes[i])
		if err != nil {
			return fds, err
		}
		fds = append(fds, kept...)
		if i == 0 {
			c.init = p
		} else {
			if c.execs == nil {
				c.execs = map[string]*process{}
			}
			c.execs[p.exec] = p
		}
	}
	return fds, nil
}

func (s *Server) restoreProcess(c *container, ps *processState) (p *process, fds []int, err error) {
	p = newProcess(c, ps.Exec, ps.Stdio, ps.Terminal)
	p.keep, p.kept, p.more = ps.Keep, ps.Kept, ps.More
	p.pid, p.pidfd, p.startedAt, p.adopted, p.once, p.ended = ps.Pid, ps.Pidfd, ps.StartedAt, ps.Adopted, ps.Once, ps.Ended
	p.out.fd, p.err.fd, p.in.fd, p.in.queue, p.in.last, p.tty = ps.Out, ps.Err, ps.In, ps.InQueue, ps.InLast, ps.TTY
	for _, fd := range []int{p.pidfd, p.out.fd, p.err.fd, p.in.fd, p.tty} {
		if fd >= 0 {
			fds = append(fds, fd)
		}
	}
	if p.ended {
		return p, fds, nil
	}
	if ps.Log != nil {
		if err := p.restoreLog(ps); err != nil {
			s.log.Error("log", "container", c.id, "error", err)
		}
	}
	for _, cs := range ps.Streams {
		p.streams = append(p.streams, s.restoreStream(cs, p))
		fds = append(fds, cs.FD)
	}
	if err := s.poll.set(p.pidfd, (*exitWatch)(p), unix.EPOLLIN); err != nil {
		return p, fds, err
	}
	p.watchOutput()
	p.in.flush()
	for _, client := range p.streams {
		client.watch()
	}
	return p, fds, nil
}

func (s *Server) restoreStream(cs streamState, p *process) *stream {
	st := &stream{
		s: s, p: p, fd: cs.FD, stdin: cs.Stdin, stdout: cs.Stdout, stderr: cs.Stderr, raw: cs.Raw,
		keys: detacher{keys: cs.Keys, have: cs.Held}, queue: cs.Queue,
	}
	s.streams[st] = struct{}{}
	return st
}
