package server

// Keeper keeps descriptors for the next process of a service: a service manager.
// Of what it does not take, nothing else is told.
type Keeper interface {
	Keep(name string, fd int) error
	Drop(name string) error
}

// The kernel hangs a terminal up when the last descriptor of its master side is
// closed, and a container cannot hold its own, as it can its pipes (keepEnds). So
// a service manager has a duplicate of it: it is the one process that is there
// when both we and the daemon are killed. That costs only containers with a
// terminal, each one datagram at its start and one at its end.

// terminalName is what a container's terminal is kept as.
func terminalName(id string) string { return "terminal-" + id }

// keepTerminal has the terminal of a container's first process kept.
func (p *process) keepTerminal() {
	if k := p.c.s.o.Keeper; k != nil && p.terminal && p.exec == "" {
		if err := k.Keep(terminalName(p.c.id), p.out.fd); err != nil {
			p.c.s.warn("a terminal is not kept by the service manager", "container", p.c.id, "error", err)
		}
	}
}

// dropTerminal is called at the end of the process.
func (p *process) dropTerminal() {
	if p.terminal && p.exec == "" {
		p.c.s.dropKept(p.c.id)
	}
}

// takeKept returns the terminal that was kept of a container for us, which is the
// caller's then, or -1.
func (s *Server) takeKept(id string) int {
	fd, ok := s.kept[terminalName(id)]
	if !ok {
		return -1
	}
	delete(s.kept, terminalName(id))
	return fd
}

// dropKept has the terminal of a container not kept any more.
func (s *Server) dropKept(id string) {
	closeFDs(s.takeKept(id))
	if s.o.Keeper == nil {
		return
	}
	if err := s.o.Keeper.Drop(terminalName(id)); err != nil {
		s.warn("a terminal stays with the service manager", "container", id, "error", err)
	}
}
