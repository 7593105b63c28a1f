package server

import (
	"path/filepath"

	"lade/internal/errdefs"
	"lade/internal/logs"
	"lade/internal/supervisor/wire"
)

// openLog opens what a process's output is kept in, and the way to where else
// it goes. Errors: NotImplemented for an unknown driver.
func (p *process) openLog(l wire.Log) error {
	o := logs.Options{Path: l.Path, MaxSize: l.MaxSize, MaxFile: l.MaxFile, Compress: l.Compress, Attrs: l.Attrs}
	switch l.Driver {
	case "", "none":
		if l.Target == nil {
			return nil
		}
		o = logs.Options{}
	case "json-file":
	case "local":
		o.Format = logs.FormatLocal
	default:
		return errdefs.NotImplementedf("log driver %q", l.Driver)
	}
	if l.Target != nil {
		var err error
		if p.outlet, err = p.c.s.newOutlet(p, l.Target); err != nil {
			return err
		}
	}
	return p.createLog(o)
}

func (p *process) createLog(o logs.Options) (err error) {
	h := logs.Hooks{Background: p.c.s.background, After: p.c.s.poll.after}
	if p.outlet != nil {
		h.Sink = p.outlet.take
	}
	p.log, err = logs.Create(o, h)
	return err
}

// restoreLog goes on with the log that our former program wrote.
func (p *process) restoreLog(ps *processState) (err error) {
	if ps.Outlet != nil {
		if p.outlet, err = p.c.s.restoreOutlet(p, ps.Outlet); err != nil {
			return err
		}
	}
	if err = p.createLog(*ps.Log); err == nil {
		p.log.Restore(ps.Lines)
	}
	return err
}

// flushLog sends what the log was just given to where else it goes.
func (p *process) flushLog() {
	if p.outlet != nil && p.outlet.up {
		p.outlet.flush()
	}
}

// clearLog removes what is kept of a container's output. In the loop, so that no
// start creates the log meanwhile.
func (s *Server) clearLog(r *request, m *wire.ClearLog) error {
	if !validID(m.ID) || !filepath.IsAbs(m.Path) {
		return errdefs.Invalidf("supervisor: a log to clear needs an id and a path")
	}
	var err error
	if c := s.containers[m.ID]; c != nil && c.init != nil && c.init.log != nil && c.init.log.Options().Path == m.Path {
		err = c.init.log.Clear()
	} else {
		err = logs.Remove(m.Path)
	}
	if err != nil {
		return err
	}
	r.ok()
	return nil
}

// closeLog closes the log of a process that was not started.
func (p *process) closeLog() {
	if p.log != nil {
		p.log.Close()
		p.log = nil
	}
	if p.outlet != nil {
		p.outlet.close()
		p.outlet = nil
	}
}

// aside is work that is done beside the loop, and what follows in it.
type aside struct{ work, done func() }

// background runs work beside the loop, one at a time, and then done in it. An
// upgrade does not wait for it.
func (s *Server) background(work, done func()) {
	s.asides = append(s.asides, aside{work, done})
	if len(s.asides) == 1 {
		s.nextAside()
	}
}

func (s *Server) nextAside() {
	a := s.asides[0]
	go func() {
		a.work()
		s.poll.post(func() {
			a.done()
			s.asides = s.asides[1:]
			if len(s.asides) > 0 {
				s.nextAside()
			} else {
				s.asides = nil
			}
		})
	}()
}
