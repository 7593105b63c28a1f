package server

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/failpoint"
	"lade/internal/supervisor/wire"
)

// maxDrain bounds what is read of a process's output after its end: a pipe
// holds 1 MB at most (fs.pipe-max-size), but somebody may go on writing.
const maxDrain = 4 << 20

// unknownAfter is how long the parent of an adopted process has to reap it
// before its exit code counts as not known.
const unknownAfter = 2 * time.Second

// exitWatch is a process in its role as the watcher of its pidfd, which
// becomes readable when the process has ended.
type exitWatch process

func (w *exitWatch) ready(events uint32) {
	p := (*process)(w)
	if p.ended {
		return
	}
	if !p.adopted {
		var ws unix.WaitStatus
		// By number: it is our child, and nobody else reaps it.
		pid, err := wait(p.pid, &ws)
		switch {
		case pid == p.pid:
			p.end(exitCode(ws))
		case err != nil: // ECHILD
			p.c.s.log.Error("somebody reaped a container's process", "container", p.c.id, "pid", p.pid, "error", err)
			p.end(-1, 0)
		}
		return
	}
	// Asked first: what is reaped in between is told. EPOLLHUP says the same,
	// from Linux 6.9 on.
	reaped := unix.PidfdSendSignal(p.pidfd, 0, nil, 0) == unix.ESRCH || events&unix.EPOLLHUP != 0
	if ws, known := adoptedStatus(p.pid, p.pidfd); known {
		p.endTold(exitCode(ws))
		return
	}
	if reaped { // and the kernel does not tell
		p.c.s.poll.drop(p.pidfd)
		p.endUntold()
		return
	}
	// It waits to be reaped; EPOLLHUP, which is always reported, tells.
	if err := p.c.s.poll.set(p.pidfd, w, 0); err != nil {
		p.end(-1, 0)
		return
	}
	p.c.s.poll.after(unknownAfter, func() {
		if !p.ended {
			p.endUntold()
		}
	})
}

func wait(pid int, ws *unix.WaitStatus) (int, error) {
	for {
		got, err := unix.Wait4(pid, ws, unix.WNOHANG|unix.WALL, nil)
		if err != unix.EINTR {
			return got, err
		}
	}
}

func exitCode(ws unix.WaitStatus) (code, signal int) {
	if ws.Signaled() {
		return 128 + int(ws.Signal()), int(ws.Signal())
	}
	return ws.ExitStatus(), 0
}

// adoptedStatus returns how a process ended that is not our child.
//
// Sources: PIDFD_GET_INFO with PIDFD_INFO_EXIT in ioctl_pidfd(2), from Linux
// 6.15, once it was reaped; before that exit_code in proc_pid_stat(5), as long
// as it was not.
func adoptedStatus(pid, pidfd int) (unix.WaitStatus, bool) {
	for range 2 { // it may be reaped between the two
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		if unix.IoctlPidfdInfo(pidfd, &info) == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0 {
			return unix.WaitStatus(info.Exit_code), true
		}
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			continue
		}
		if unix.PidfdSendSignal(pidfd, 0, nil, 0) != nil { // the number may be another's by now
			continue
		}
		// The fields after the name, which may hold anything.
		f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(f) < 50 || f[0] != "Z" {
			return 0, false
		}
		n, err := strconv.Atoi(f[49])
		return unix.WaitStatus(n), err == nil
	}
	return 0, false
}

// partAfter bounds how long the clients of an ended exec wait for the daemon.
const partAfter = 2 * time.Second

// end is called once, when the process has ended: it passes on its last
// output, records its end and tells the daemon.
//
// A client takes the end of an exec's stream for the moment to ask for its exit
// code, so its stream ends only when the daemon has noted the code, and said so
// by asking to forget it.
func (p *process) end(code, signal int) {
	c, s := p.c, p.c.s
	p.ended = true
	s.poll.drop(p.pidfd)
	p.out.drain()
	p.err.drain()
	p.in.shut()
	if p.log != nil {
		if err := p.log.Close(); err != nil {
			s.warn("log", "container", c.id, "error", err)
		}
	}
	if p.outlet != nil {
		p.outlet.finish()
		p.outlet = nil
	}
	closeFDs(p.tty)
	p.dropTerminal()
	if p.exec == "" {
		p.part()
		c.resolver.close() // its sockets keep the network namespace
		c.resolver = nil
	}
	if p.once {
		p.part()
	}
	e := wire.Exited{ID: c.id, ExecID: p.exec, Pid: p.pid, Code: code, Signal: signal, At: time.Now()}
	e.Output, e.More = p.kept, p.more
	if p.exec == "" {
		e.OOM = c.oomKilled()
	}
	if !p.once {
		s.keepExit(e)
	}
	failpoint.Hit("supervisor.exited")
	s.event(e)
	if p.exec != "" {
		closeFDs(p.pidfd)
		delete(c.execs, p.exec)
		if len(p.streams) > 0 {
			s.parting[key{c.id, p.exec}] = p
			s.poll.after(partAfter, p.part)
		}
	} else {
		c.killRest()
	}
	c.release()
}

// keepExit keeps how a process ended until Forget.
func (s *Server) keepExit(e wire.Exited) {
	s.exits[key{e.ID, e.ExecID}] = e
	if err := s.recordExit(e); err != nil {
		s.log.Error("exit record", "container", e.ID, "error", err)
	}
}

// part ends the streams of the process's clients.
func (p *process) part() {
	k := key{p.c.id, p.exec}
	if p.c.s.parting[k] == p {
		delete(p.c.s.parting, k)
	}
	for len(p.streams) > 0 {
		p.streams[0].finish() // removes itself
	}
}

// drain passes on what the process has written before its end.
func (o *source) drain() {
	for left := maxDrain; o.fd >= 0 && left > 0; {
		n := o.read()
		if n == 0 {
			break
		}
		left -= n
	}
	o.close()
}

// killRest ends the execs of a container whose first process has ended. In a
// process namespace of its own the kernel has done it.
func (c *container) killRest() {
	if !c.sharedPids {
		return
	}
	for p := range c.processes() {
		_ = unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0) // ESRCH: it has ended
	}
}

// expectOrphans is called when there is a container without a process namespace
// of its own. What its processes leave behind the kernel gives to us
// (PR_SET_CHILD_SUBREAPER in prctl(2)); elsewhere it gives it to the container's
// first process. Only then is SIGCHLD of interest: it comes by four wake-ups.
func (s *Server) expectOrphans() {
	if s.children != nil {
		return
	}
	s.children = make(chan os.Signal, 1)
	signal.Notify(s.children, unix.SIGCHLD)
	go func(children <-chan os.Signal) {
		for range children {
			s.poll.post(s.reapOrphans)
		}
	}(s.children)
}

// reapOrphans reaps children that are no container's process. While a start
// or another runtime's command is under way it waits: the new child is not known
// yet, or somebody waits for it.
func (s *Server) reapOrphans() {
	s.unreaped = s.starts > 0 || s.calls > 0
	if s.unreaped {
		return
	}
	for {
		var ws unix.WaitStatus
		pid, err := wait(-1, &ws)
		if err != nil || pid <= 0 { // ECHILD
			return
		}
		if p := s.byPid(pid); p != nil {
			p.end(exitCode(ws))
		}
	}
}

func (s *Server) byPid(pid int) *process {
	for _, c := range s.containers {
		for p := range c.processes() {
			if p.pid == pid && !p.adopted {
				return p
			}
		}
	}
	return nil
}

func (s *Server) exitDir() string { return filepath.Join(s.o.Root, "exits") }

func (k key) file() string {
	if k.exec == "" {
		return k.id
	}
	return k.id + "." + k.exec
}

// recordExit writes the exit record, which outlives us but not the machine.
func (s *Server) recordExit(e wire.Exited) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	tmp := filepath.Join(s.exitDir(), ".tmp")
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(s.exitDir(), key{e.ID, e.ExecID}.file()))
}

// forgetExit removes an exit record, if there is one.
func (s *Server) forgetExit(k key) {
	if p := s.parting[k]; p != nil {
		p.part()
	}
	if _, there := s.exits[k]; !there {
		return
	}
	delete(s.exits, k)
	if err := os.Remove(filepath.Join(s.exitDir(), k.file())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("exit record", "error", err)
	}
}

// noteExits writes all records again.
func (s *Server) noteExits() error {
	if err := os.MkdirAll(s.exitDir(), 0o700); err != nil {
		return err
	}
	var errs []error
	for _, e := range s.exits {
		errs = append(errs, s.recordExit(e))
	}
	return errors.Join(errs...)
}

// loadExits reads the records of a former supervisor.
func (s *Server) loadExits() error {
	names, err := os.ReadDir(s.exitDir())
	if err != nil {
		return err
	}
	for _, n := range names {
		if strings.HasPrefix(n.Name(), ".") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(s.exitDir(), n.Name()))
		var e wire.Exited
		if err == nil {
			err = json.Unmarshal(b, &e)
		}
		if err != nil || (key{e.ID, e.ExecID}).file() != n.Name() {
			s.log.Warn("exit record", "file", n.Name(), "error", err)
			continue
		}
		s.exits[key{e.ID, e.ExecID}] = e
	}
	return nil
}
