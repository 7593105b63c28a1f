package server

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/linux/cgroup"
	"lade/internal/runtime"
	"lade/internal/supervisor/wire"
)

// launch is a process on its way from the request to its start.
type launch struct {
	s       *Server
	r       *request
	p       *process
	streams []*stream
	early   [][]byte
	theirs  [3]int // the process's ends of its standard streams, -1: /dev/null
	netns   int    // or -1
	user    int    // a user namespace, or -1
	names   *resolver
}

// start begins to start a container; started answers.
func (s *Server) start(r *request, m *wire.Start) error {
	if !validID(m.ID) || m.Spec == nil || m.Spec.Process == nil {
		return errdefs.Invalidf("supervisor: start needs an id and a spec with a process")
	}
	old := s.containers[m.ID]
	if old != nil && (old.init == nil || !old.init.ended || old.next != nil) {
		return errdefs.Conflictf("container %s is already running", m.ID)
	}
	filter, err := s.filter(m.Filter)
	if err != nil {
		return err
	}
	c := s.newContainer(m.ID)
	if m.Runtime != nil && s.o.Foreign == nil {
		return errdefs.NotImplementedf("runtime %s", m.Runtime.Name)
	}
	if c.sharedPids = !ownPids(m.Spec); c.sharedPids {
		s.expectOrphans()
	}
	c.traced = mayTrace(m.Spec.Process)
	l, err := s.prepare(r, newProcess(c, "", m.Stdio, m.Spec.Process.Terminal), m.Attach, m.NetNS)
	if err == nil {
		l.user, err = r.f.File(m.UserNS)
	}
	if err == nil && m.Resolver != nil {
		err = l.resolve(m.Resolver)
	}
	if err == nil {
		err = l.p.openLog(m.Log)
	}
	if err == nil && !l.p.terminal {
		err = l.pipes(m.Stdio.Stdin, true, true)
	}
	if err == nil {
		err = l.keepEnds(m.Stdio)
	}
	if err == nil && m.Spec.Linux != nil {
		err = s.noteGroup(c.id, m.Spec.Linux.CgroupsPath)
	}
	if err != nil {
		l.abort()
		return err
	}
	if m.OwnParent {
		s.askedFor[c.id] = true
	}
	s.forgetExit(key{c.id, ""})
	ask := &runtime.Container{
		ID: m.ID, Spec: m.Spec, Filter: filter, FilterFlags: m.FilterFlags, Listener: seccompListener(m.Listener, m.ID, specs.StateCreating, 0),
		User: m.User, GroupAdd: m.GroupAdd, NetNS: l.netns, UserNS: max(l.user, 0), Init: m.Init, Delegate: m.Delegate,
		// The engine's snapshots have the ids of their images.
		Rootfs: runtime.Rootfs{Lower: m.Rootfs.Lower, Upper: m.Rootfs.Upper, Work: m.Rootfs.Work, Volatile: m.Rootfs.Volatile, Path: m.Rootfs.Path, Translate: true},
		Stdin:  l.theirs[0], Stdout: l.theirs[1], Stderr: l.theirs[2],
	}
	if m.Next != nil {
		ask.Next = *m.Next
	}
	if m.Spec.Linux != nil {
		ask.Rootfs.Context = m.Spec.Linux.MountLabel
	}
	failpoint.Hit("supervisor.start")
	l.r.c.starts++
	begin := func() {
		l.run(func() (*runtime.Process, error) { return c.launcher().Start(context.Background(), ask) })
	}
	if m.Runtime != nil {
		begin = func() { l.runForeign(m.Runtime, ask) }
	}
	next := func() {
		s.containers[c.id] = c
		if _, cleaning := s.cleaning[c.id]; cleaning { // it would remove the new control group
			s.cleaning[c.id] = append(s.cleaning[c.id], begin)
			return
		}
		begin()
	}
	if old != nil { // the last execs of its former life are ending
		old.next = next
		return nil
	}
	next()
	return nil
}

// maxKeep bounds Exec.Keep: its end is told in one packet.
const maxKeep = 16 << 10

// exec begins to start an additional process; started answers.
func (s *Server) exec(r *request, m *wire.Exec) error {
	if !validID(m.ExecID) || m.Process == nil || len(m.Attach) > 1 {
		return errdefs.Invalidf("supervisor: exec needs an id, a process and at most one client")
	}
	if m.Keep < 0 || m.Keep > maxKeep || m.Keep > 0 && !m.Once {
		return errdefs.Invalidf("supervisor: %d bytes of an exec's output cannot be kept", m.Keep)
	}
	c, err := s.running(m.ID)
	if err != nil {
		return err
	}
	if c.execs[m.ExecID] != nil {
		return errdefs.Conflictf("exec %s is already running", m.ExecID)
	}
	if c.frozen { // it would freeze before its execve
		return errdefs.Conflictf("container %s is paused, unpause the container before exec", m.ID)
	}
	filter, err := s.filter(m.Filter)
	if err != nil {
		return err
	}
	l, err := s.prepare(r, newProcess(c, m.ExecID, m.Stdio, m.Process.Terminal), m.Attach, 0)
	if err == nil && !l.p.terminal {
		err = l.pipes(m.Stdio.Stdin, m.Stdio.Stdout, m.Stdio.Stderr)
	}
	if err != nil {
		l.abort()
		return err
	}
	if c.execs == nil {
		c.execs = map[string]*process{}
	}
	c.execs[m.ExecID] = l.p
	l.p.once, l.p.keep = m.Once, m.Keep
	ask := &runtime.Exec{
		Pid: c.init.pid, Pidfd: c.init.pidfd, Cgroup: c.group,
		Process: m.Process, Traced: c.traced, Filter: filter, FilterFlags: m.FilterFlags, Listener: seccompListener(m.Listener, m.ID, specs.StateRunning, c.init.pid), User: m.User, GroupAdd: m.GroupAdd,
		Stdin: l.theirs[0], Stdout: l.theirs[1], Stderr: l.theirs[2],
	}
	c.traced = c.traced || mayTrace(m.Process) // from now on
	c.busy++                                   // its pidfd and its group stay
	c.launching++
	l.r.c.starts++
	l.run(func() (*runtime.Process, error) { return c.launcher().Exec(context.Background(), ask) })
	return nil
}

// mayTrace reports whether a process may look at others whatever these are:
// runtime.Exec, Traced.
func mayTrace(p *specs.Process) bool {
	return p != nil && p.Capabilities != nil && slices.Contains(p.Capabilities.Bounding, "CAP_SYS_PTRACE")
}

// seccompListener adds to a request's listener what it is told of the
// container; pid is that of its first process, if it has one.
func seccompListener(l *wire.Listener, id string, status specs.ContainerState, pid int) *runtime.Listener {
	if l == nil {
		return nil
	}
	return &runtime.Listener{Path: l.Path, Metadata: l.Metadata, State: specs.State{Version: specs.Version, ID: id, Status: status, Pid: pid}}
}

// adopt takes over a process that another supervisor started.
func (s *Server) adopt(r *request, m *wire.Adopt) error {
	c := s.containers[m.ID]
	if err := mayAdopt(c, m); err != nil {
		return err
	}
	if m.ExecID == "" {
		c = s.newContainer(m.ID)
		c.frozen = m.Frozen
		c.traced = true // what was executed in it is not known
		if c.sharedPids = !firstOfNamespace(m.Pid); c.sharedPids {
			s.expectOrphans()
		}
		if err := c.adoptForeign(); err != nil {
			return err
		}
	}
	kept := -1
	if m.Kept && m.ExecID == "" {
		kept = s.takeKept(m.ID)
	}
	p := newProcess(c, m.ExecID, m.Stdio, m.Terminal || kept >= 0)
	p.adopted = true
	l, err := s.prepare(r, p, nil, 0)
	if err == nil && m.ExecID == "" {
		err = p.openLog(m.Log)
	}
	proc := &runtime.Process{Pid: m.Pid, Pidfd: -1, Console: -1, StartedAt: m.StartedAt}
	if kept >= 0 {
		proc.Console = kept
	}
	for _, take := range []struct {
		to   *int
		from wire.FD
	}{{&proc.Pidfd, m.Pidfd}, {&proc.Console, m.Console}, {&p.in.fd, m.Stdin}, {&p.out.fd, m.Stdout}, {&p.err.fd, m.Stderr}} {
		if err == nil && take.from != 0 {
			*take.to, err = r.f.File(take.from)
		}
		if err == nil && *take.to >= 0 && take.to != &proc.Pidfd {
			err = unix.SetNonblock(*take.to, true)
		}
	}
	if err != nil {
		closeFDs(proc.Pidfd, proc.Console)
		l.abort()
		return err
	}
	if m.ExecID == "" {
		s.containers[m.ID] = c
		if err := s.noteGroup(m.ID, m.Cgroup); err != nil {
			s.log.Warn("note of a control group", "container", m.ID, "error", err)
		}
	} else {
		if c.execs == nil {
			c.execs = map[string]*process{}
		}
		c.execs[m.ExecID] = p
		c.busy++
		c.launching++
	}
	l.r.c.starts++
	l.run(func() (*runtime.Process, error) {
		if m.ExecID == "" && m.Cgroup != "" && s.o.Cgroup != nil {
			g, err := s.o.Cgroup(m.Cgroup)
			if err != nil {
				closeFDs(proc.Pidfd, proc.Console)
				return nil, err
			}
			proc.Cgroup = g
		}
		if m.ExecID == "" {
			proc.Root = runtime.HoldRoot(proc.Pid, proc.Pidfd)
		}
		return proc, nil
	})
	return nil
}

// mayAdopt refuses what cannot be adopted; c is the container, if it is known.
func mayAdopt(c *container, m *wire.Adopt) error {
	switch {
	case !validID(m.ID) || m.Pid <= 0 || m.Pidfd == 0 || m.ExecID != "" && !validID(m.ExecID):
		return errdefs.Invalidf("supervisor: adopt needs an id, a process and its pidfd")
	case m.ExecID == "" && c != nil:
		return errdefs.Conflictf("container %s is already supervised", m.ID)
	case m.ExecID != "" && (c == nil || c.init == nil):
		return errdefs.NotFoundf("container %s is not supervised", m.ID)
	case m.ExecID != "" && c.execs[m.ExecID] != nil:
		return errdefs.Conflictf("exec %s is already supervised", m.ExecID)
	}
	return nil
}

// duplicate gives the descriptors of a running process to its daemon.
func (s *Server) duplicate(r *request, m *wire.Duplicate) error {
	p, err := s.process(m.ID, m.ExecID)
	if err != nil {
		return err
	}
	r.started(p, 0, 0)
	return nil
}

func (s *Server) newContainer(id string) *container {
	return &container{s: s, id: id, oomfd: -1}
}

// prepare takes what a process needs from its request.
func (s *Server) prepare(r *request, p *process, attach []wire.Attach, netns wire.FD) (*launch, error) {
	l := &launch{s: s, r: r, p: p, theirs: [3]int{-1, -1, -1}, netns: -1, user: -1}
	for i := range attach {
		st, err := s.newStream(r.f, &attach[i], p)
		if err != nil {
			return l, err
		}
		l.streams = append(l.streams, st)
		l.early = append(l.early, attach[i].Early)
	}
	var err error
	l.netns, err = r.f.File(netns)
	return l, err
}

// resolve makes the container's name server, without sockets yet.
func (l *launch) resolve(know *wire.Resolver) (err error) {
	if l.netns < 0 {
		return errdefs.Invalidf("supervisor: a name server needs a network namespace")
	}
	l.names, err = l.s.newResolver(l.p.c.id, know)
	return err
}

// pipes makes the pipes of a process without a terminal.
func (l *launch) pipes(stdin, stdout, stderr bool) error {
	for i, want := range []bool{stdin, stdout, stderr} {
		if !want {
			continue
		}
		var fd [2]int
		if err := unix.Pipe2(fd[:], unix.O_CLOEXEC); err != nil {
			return os.NewSyscallError("pipe2", err)
		}
		ours, theirs := fd[0], fd[1]
		if i == 0 {
			ours, theirs = theirs, ours
		}
		l.theirs[i] = theirs
		*[]*int{&l.p.in.fd, &l.p.out.fd, &l.p.err.fd}[i] = ours
		if err := unix.SetNonblock(ours, true); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
	}
	return nil
}

// abort gives up what the launch has taken. The clients' streams end, except
// that of an exec: the daemon has yet to say on it what went wrong.
func (l *launch) abort() {
	l.closeTheirs()
	l.names.close()
	p := l.p
	closeFDs(p.in.fd, p.out.fd, p.err.fd)
	p.in.fd, p.out.fd, p.err.fd = -1, -1, -1
	p.closeLog()
	for _, st := range l.streams {
		if p.exec == "" {
			st.finish()
		} else {
			st.handBack()
		}
	}
}

// handBack closes our descriptor of a stream that never began and leaves the
// connection as it is.
func (st *stream) handBack() {
	unix.Close(st.fd)
	st.fd = -1
	delete(st.s.streams, st)
	st.leave()
	st.s.checkIdle()
}

func (l *launch) closeTheirs() {
	closeFDs(l.theirs[0], l.theirs[1], l.theirs[2], l.netns, l.user)
	l.theirs, l.netns, l.user = [3]int{-1, -1, -1}, -1, -1
}

func closeFDs(fds ...int) {
	for _, fd := range fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// run calls f in a goroutine and started with its result.
func (l *launch) run(f func() (*runtime.Process, error)) {
	var proc *runtime.Process
	var err error
	l.s.launch(func() {
		defer func() {
			if v := recover(); v != nil {
				proc, err = nil, errdefs.Internalf("supervisor: the start panicked: %v", v)
			}
		}()
		if l.names != nil {
			err = inside(l.netns, l.names.listen)
		}
		if err == nil {
			proc, err = f()
		}
	}, func() { l.started(proc, err) })
}

// started answers the request with the started process and begins to
// supervise it.
func (l *launch) started(proc *runtime.Process, err error) {
	s, p, c := l.s, l.p, l.p.c
	if l.r.c.fd >= 0 {
		l.r.c.starts--
	} else {
		s.orphans--
	}
	if p.exec != "" {
		c.busy--
		c.launching--
	}
	l.closeTheirs()
	if err == nil {
		p.pid, p.pidfd, p.startedAt = proc.Pid, proc.Pidfd, proc.StartedAt
		p.adopted = p.adopted || proc.Adopted
		if p.terminal {
			p.out.fd, p.in.fd = proc.Console, proc.Console
			err = unix.SetNonblock(proc.Console, true)
		}
		if err == nil {
			err = s.poll.set(p.pidfd, (*exitWatch)(p), unix.EPOLLIN)
		}
		if err != nil { // cannot be: both are fresh descriptors of the right kind
			_ = unix.PidfdSendSignal(proc.Pidfd, unix.SIGKILL, nil, 0)
			closeFDs(proc.Pidfd)
			if proc.Root != 0 {
				closeFDs(proc.Root)
			}
		}
	}
	if err != nil {
		l.failed(err)
		return
	}
	if p.exec == "" {
		c.init, c.group, c.root = p, proc.Cgroup, proc.Root
		if c.resolver = l.names; c.resolver != nil {
			c.resolver.serve()
		}
	}
	if p.exec != "" && c.init.ended { // meanwhile: killRest did not know of it
		c.killRest()
	}
	p.keepTerminal()
	failpoint.Hit("supervisor.started")
	l.r.started(p, proc.Prepare, proc.Program)
	for i, st := range l.streams {
		st.join(l.early[i])
	}
	p.watchOutput()
	if p.exec == "" && c.group != nil {
		s.poll.after(oomAfter, c.watchOOM)
	}
	s.trim()
}

// failed answers a start that failed and forgets it.
func (l *launch) failed(err error) {
	c := l.p.c
	l.abort()
	if l.p.exec == "" {
		delete(l.s.containers, c.id)
		l.s.dropGone(c.id)
	} else {
		delete(c.execs, l.p.exec)
		c.release()
	}
	code := 0
	if se, ok := errors.AsType[*runtime.StartError](err); ok {
		code = se.Code
		err = errdefs.Invalidf("%w", err) // the spec is the caller's
	}
	l.r.failCode(err, code)
}

// started answers the request with the process's description and duplicates of
// what we hold.
func (r *request) started(p *process, prepare, program time.Duration) {
	m := wire.Started{Pid: p.pid, StartedAt: p.startedAt, Prepare: prepare, Program: program}
	var files, ours []int
	add := func(fd, mode int) wire.FD {
		if fd < 0 {
			return 0
		}
		// A pipe is opened anew: O_NONBLOCK is then ours alone, and the daemon's
		// runtime need not watch what it only keeps.
		if mode >= 0 {
			if dup, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), mode|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err == nil {
				_ = unix.SetNonblock(dup, false) // it was for open(2) alone
				ours = append(ours, dup)
				fd = dup
			}
		}
		files = append(files, fd)
		return wire.FD(len(files))
	}
	m.Pidfd = add(p.pidfd, -1)
	switch {
	case p.keep > 0:
	case p.terminal:
		m.Console = add(p.out.fd, -1)
	default:
		if p.keepsStdin() {
			m.Stdin = add(p.in.fd, unix.O_WRONLY)
		}
		m.Stdout, m.Stderr = add(p.out.fd, unix.O_RDONLY), add(p.err.fd, unix.O_RDONLY)
	}
	r.answer(m, files)
	closeFDs(ours...)
}

// oomAfter is how long after its start a container is watched for kills for
// memory. One that ends before is asked at its end only, which saves six system
// calls and two wake-ups.
const oomAfter = 100 * time.Millisecond

// watchOOM asks the kernel to tell when it kills a process of the container
// for memory, and tells of what happened before.
func (c *container) watchOOM() {
	s, g := c.s, c.group
	if c.init.ended || c.oomfd >= 0 {
		return
	}
	c.busy++
	go func() {
		fd, err := g.OOMNotify()
		s.poll.post(func() {
			c.busy--
			switch {
			case err != nil:
				s.log.Debug("no notification of OOM", "container", c.id, "error", err)
			case c.init.ended:
				unix.Close(fd)
			default:
				if err = s.poll.set(fd, (*oomWatch)(c), unix.EPOLLIN); err != nil {
					unix.Close(fd)
					break
				}
				c.oomfd = fd
				c.lookOOM(lookOften)
			}
			c.release()
		})
	}()
}

// oomWatch is a container in its role as the watcher of its OOM events.
type oomWatch container

func (w *oomWatch) ready(uint32) {
	c := (*container)(w)
	buf := make([]byte, 4096) // an eventfd's count, or inotify events
	if n, err := unix.Read(c.oomfd, buf); n <= 0 || err != nil {
		if err != unix.EAGAIN && err != unix.EINTR {
			c.dropOOM()
		}
		return
	}
	c.lookOOM(0)
}

// lookOften is how often lookOOM looks again.
const lookOften = 8

// lookOOM tells of a kill for memory that was not told of yet. The kernel (v1)
// notifies before it kills, so it looks again a few times.
func (c *container) lookOOM(tries int) {
	told := c.kills
	if c.oomKilled(); c.kills > told {
		c.s.event(wire.OOM{ID: c.id})
	} else if tries < lookOften && c.oomfd >= 0 {
		c.s.poll.after(5*time.Millisecond<<tries, func() { c.lookOOM(tries + 1) })
	}
}

func (c *container) dropOOM() {
	if c.oomfd >= 0 {
		c.s.poll.drop(c.oomfd)
		unix.Close(c.oomfd)
		c.oomfd = -1
	}
}

// oomKilled asks the kernel whether it killed a process of the container for
// memory, and remembers it.
func (c *container) oomKilled() bool {
	var n uint64
	var err error = errdefs.NotFound
	if c.group != nil {
		n, err = c.group.OOMKills()
	}
	if f, ok := c.foreign.(accountant); ok && err != nil {
		n, err = f.OOMKills()
	}
	if err == nil && n > 0 {
		c.kills, c.oom = n, true
	}
	return c.oom
}

// cleanup is how long the removal of a control group may take.
const cleanup = 30 * time.Second

// release forgets the container once nothing uses it any more, and removes its
// control group.
func (c *container) release() {
	s := c.s
	if c.init == nil || !c.init.ended || len(c.execs) > 0 || c.busy > 0 || s.containers[c.id] != c {
		return
	}
	delete(s.containers, c.id)
	c.dropOOM()
	closeFDs(c.init.pidfd)
	c.init.pidfd = -1
	if c.group == nil && c.foreign == nil && c.root == 0 {
		if c.next == nil {
			s.dropGroup(c.id)
		}
	} else {
		s.cleaning[c.id] = nil
		c.clean()
	}
	if c.next != nil {
		c.next()
	}
	s.trim()
	s.checkIdle()
}

// clean removes what is left of a container that has ended.
func (c *container) clean() {
	s := c.s
	remove := func() {
		var err error
		s.call(func() {
			err = s.clean(c.foreign, c.group, c.sharedPids)
			failpoint.Hit("supervisor.removed")
		}, func() {
			if err != nil {
				s.log.Warn("clean-up", "container", c.id, "error", err)
			}
			switch {
			case s.containers[c.id] != nil: // a start waits for this
			case err == nil:
				s.dropGroup(c.id)
			default:
				s.dropGone(c.id)
			}
			c.leaveRoot(func() { s.cleaned(c.id) })
		})
	}
	if c.foreign == nil || c.group == nil {
		remove()
		return
	}
	// What the runtime has running beside the container (gVisor's gofer) ends with it,
	// and is our child. Its "delete" waits until it is reaped, which we cannot do
	// while that runs.
	s.call(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanup)
		defer cancel()
		if err := c.group.Kill(ctx); err != nil {
			s.log.Warn("clean-up", "container", c.id, "error", err)
		}
	}, func() {
		s.reapOrphans()
		remove()
	})
}

// leaveRoot closes the root mount, which may be synced then, beside the loop, and
// calls done. Nobody waits for it but the next start with the same files.
func (c *container) leaveRoot(done func()) {
	root := c.root
	if root == 0 {
		done()
		return
	}
	c.root = 0
	go func() {
		unix.Close(root)
		c.s.poll.post(func() {
			done()
			c.s.checkIdle()
		})
	}()
}

// cleaned begins the starts that have waited for the end of a clean-up.
func (s *Server) cleaned(id string) {
	waiting := s.cleaning[id]
	delete(s.cleaning, id)
	for _, begin := range waiting {
		begin()
	}
}

// deleteGroup removes a control group; in a shared process namespace the end
// of the first process has ended no other.
func deleteGroup(ctx context.Context, g *cgroup.Group, kill bool) error {
	var err error
	if kill {
		err = g.Kill(ctx)
	}
	return errors.Join(err, g.Delete(ctx))
}

// ownPids reports whether the container gets a process namespace of its own.
func ownPids(spec *specs.Spec) bool {
	if spec.Linux != nil {
		for _, ns := range spec.Linux.Namespaces {
			if ns.Type == specs.PIDNamespace {
				return ns.Path == ""
			}
		}
	}
	return false
}

// firstOfNamespace reports whether a process is the first of its process
// namespace, whose end ends all others.
//
// Source: NSpid in proc_pid_status(5).
func firstOfNamespace(pid int) bool {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil { // it has ended, or is ours only by its pidfd
		return false
	}
	_, line, _ := strings.Cut(string(status), "\nNSpid:")
	line, _, _ = strings.Cut(line, "\n")
	f := strings.Fields(line)
	return len(f) > 1 && f[len(f)-1] == "1"
}

// validID reports whether s may name a file.
func validID(s string) bool {
	return s != "" && len(s) <= 120 && s[0] != '.' && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}
