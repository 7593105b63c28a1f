package server

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/supervisor/wire"
	"lade/internal/trace"
)

// groupWait bounds an operation on a control group.
const groupWait = 10 * time.Second

// running returns a running container. Errors: NotFound.
func (s *Server) running(id string) (*container, error) {
	c := s.containers[id]
	if c == nil || c.init == nil || c.init.ended {
		return nil, errdefs.NotFoundf("container %s is not running", id)
	}
	return c, nil
}

// process returns a running process. Errors: NotFound.
func (s *Server) process(id, exec string) (*process, error) {
	if exec == "" {
		c, err := s.running(id)
		if err != nil {
			return nil, err
		}
		return c.init, nil
	}
	c := s.containers[id]
	if c == nil || c.execs[exec] == nil || c.execs[exec].pid == 0 {
		return nil, errdefs.NotFoundf("exec %s of container %s is not running", exec, id)
	}
	return c.execs[exec], nil
}

func (s *Server) attach(r *request, m *wire.Attach) error {
	p, err := s.process(m.ID, m.ExecID)
	if err != nil {
		return err
	}
	st, err := s.newStream(r.f, m, p)
	if err != nil {
		return err
	}
	r.ok()
	st.join(m.Early)
	return nil
}

func (s *Server) signal(r *request, m *wire.Signal) error {
	p, err := s.process(m.ID, m.ExecID)
	if err != nil {
		return err
	}
	c, sig := p.c, unix.Signal(m.Signal)
	if sig == unix.SIGKILL && m.ExecID == "" && c.group != nil && (m.All || c.frozen) {
		c.do(r, func(ctx context.Context, g *cgroup.Group) error { return g.Kill(ctx) }, func() { c.frozen = false })
		return nil
	}
	if f, ok := c.foreign.(signaller); ok && m.ExecID == "" && sig != unix.SIGKILL {
		if err := checkSignal(sig); err != nil {
			return err
		}
		c.ask(r, func(ctx context.Context) error { return f.Signal(ctx, sig) }, func() {})
		return nil
	}
	if m.All && m.ExecID == "" {
		for p := range c.processes() {
			if err := send(p, sig); err != nil {
				return err
			}
		}
		r.ok()
		return nil
	}
	r.fail(send(p, sig))
	return nil
}

// send sends a signal. Errors: NotFound if the process has ended, Invalid for
// no signal.
func send(p *process, sig unix.Signal) error {
	span := trace.Begin(trace.Process, "pidfd_send_signal "+unix.SignalName(sig), p.c.id)
	switch err := span.End(unix.PidfdSendSignal(p.pidfd, sig, nil, 0)); err {
	case nil:
		return nil
	case unix.ESRCH:
		return errdefs.NotFoundf("container %s is not running", p.c.id)
	case unix.EINVAL:
		return errdefs.Invalidf("no signal has the number %d", int(sig))
	default:
		return os.NewSyscallError("pidfd_send_signal", err)
	}
}

func (s *Server) resize(r *request, m *wire.Resize) error {
	p, err := s.process(m.ID, m.ExecID)
	if err != nil {
		return err
	}
	if !p.terminal || p.out.fd < 0 {
		return errdefs.Conflictf("container %s has no terminal", m.ID)
	}
	size := unix.Winsize{Row: m.Rows, Col: m.Cols}
	r.fail(os.NewSyscallError("ioctl TIOCSWINSZ", unix.IoctlSetWinsize(p.out.fd, unix.TIOCSWINSZ, &size)))
	return nil
}

func (s *Server) freeze(r *request, m *wire.Freeze) error {
	c, err := s.running(m.ID)
	if err != nil {
		return err
	}
	if c.group == nil {
		return c.freezeForeign(r, m.Thaw)
	}
	if m.Thaw {
		c.do(r, func(ctx context.Context, g *cgroup.Group) error { return g.Thaw(ctx) }, func() { c.frozen = false })
		return nil
	}
	was := c.frozen
	c.frozen = true // from now on no exec begins
	c.whenLaunched(func() {
		c.do(r, func(ctx context.Context, g *cgroup.Group) error {
			err := g.Freeze(ctx)
			if err != nil {
				s.poll.post(func() { c.frozen = was })
			}
			return err
		}, func() {})
	})
	return nil
}

// whenLaunched calls f when no exec is being started: one that is frozen before
// its execve(2) would keep its launcher waiting.
func (c *container) whenLaunched(f func()) {
	if c.launching == 0 {
		f()
		return
	}
	c.s.poll.after(time.Millisecond, func() { c.whenLaunched(f) })
}

func (s *Server) update(r *request, m *wire.Update) error {
	c, err := s.running(m.ID)
	if err != nil {
		return err
	}
	if m.Resources == nil {
		return errdefs.Invalidf("supervisor: update without resources")
	}
	if f, ok := c.foreign.(controller); ok && c.group == nil {
		c.ask(r, func(ctx context.Context) error { return f.Update(ctx, m.Resources) }, func() {})
		return nil
	}
	if c.group == nil {
		return errdefs.NotImplementedf("container %s has no control group", m.ID)
	}
	c.do(r, func(_ context.Context, g *cgroup.Group) error { return g.Update(m.Resources) }, func() {})
	return nil
}

// do runs an operation on the container's control group in a goroutine, then
// done in the loop if it succeeded, and answers.
func (c *container) do(r *request, op func(context.Context, *cgroup.Group) error, done func()) {
	c.busy++
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), groupWait)
		defer cancel()
		err := op(ctx, c.group)
		c.s.poll.post(func() {
			c.busy--
			if err == nil {
				done()
			}
			r.fail(err)
			c.release()
		})
	}()
}

func (s *Server) forget(r *request, m *wire.Forget) error {
	s.forgetExit(key{m.ID, m.ExecID})
	if _, there := s.kept[terminalName(m.ID)]; there && m.ExecID == "" && s.containers[m.ID] == nil {
		s.dropKept(m.ID) // it ended while nobody was there
	}
	if _, cleaning := s.cleaning[m.ID]; m.ExecID == "" && s.containers[m.ID] == nil && !cleaning && s.groups[m.ID] != "" {
		s.dropForeign(m.ID, func(err error) {
			if err != nil {
				r.fail(err)
				return
			}
			s.dropGroup(m.ID)
			r.ok()
		})
		return nil
	}
	r.ok()
	return nil
}

// openPeer opens the slave side of a terminal by its master side.
//
// Source: TIOCGPTPEER in ioctl_tty(2), from Linux 4.13.
func openPeer(master int) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}
