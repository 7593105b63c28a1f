package server

import (
	"os"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/supervisor/wire"
)

// dispatch answers a request, or starts what will.
func (s *Server) dispatch(r *request) {
	if !r.c.greeted && r.typ != wire.TypeHello {
		r.fail(errdefs.Invalidf("supervisor: %v before Hello", r.typ))
		return
	}
	switch r.typ {
	case wire.TypeHello:
		with(r, s.hello)
	case wire.TypePutFilter:
		with(r, s.putFilter)
	case wire.TypeStart:
		with(r, s.start)
	case wire.TypeExec:
		with(r, s.exec)
	case wire.TypeAdopt:
		with(r, s.adopt)
	case wire.TypeDuplicate:
		with(r, s.duplicate)
	case wire.TypeAttach:
		with(r, s.attach)
	case wire.TypeSignal:
		with(r, s.signal)
	case wire.TypeResize:
		with(r, s.resize)
	case wire.TypeFreeze:
		with(r, s.freeze)
	case wire.TypeUpdate:
		with(r, s.update)
	case wire.TypeForget:
		with(r, s.forget)
	case wire.TypeMakeUser:
		with(r, s.makeUser)
	case wire.TypeSetResolver:
		with(r, s.setResolver)
	case wire.TypeSetNames:
		with(r, s.setNames)
	case wire.TypeClearLog:
		with(r, s.clearLog)
	case wire.TypeUpgrade:
		with(r, s.upgrade)
	case wire.TypeShutdown:
		r.fail(s.shutdown())
	default:
		r.fail(errdefs.NotImplementedf("supervisor: unknown request %v", r.typ))
	}
}

// with decodes the request's message for its handler. The handler answers;
// an error that it returns is the answer.
func with[T any](r *request, handle func(*request, *T) error) {
	msg := new(T)
	err := r.f.Decode(msg)
	if err == nil {
		err = handle(r, msg)
	}
	if err != nil {
		r.fail(err)
	}
}

func (s *Server) hello(r *request, m *wire.Hello) error {
	if m.Version != wire.Version {
		return errdefs.Invalidf("supervisor: protocol version %d is not spoken here, only %d", m.Version, wire.Version)
	}
	if s.orphans > 0 {
		// What a former daemon began to start would be in no Welcome.
		s.greeting = append(s.greeting, func() { s.welcome(r) })
		return nil
	}
	s.welcome(r)
	return nil
}

func (s *Server) welcome(r *request) {
	w := wire.Welcome{Version: wire.Version, Build: s.o.Build, Pid: os.Getpid(), StartedAt: s.began}
	for _, c := range s.containers {
		for p := range c.processes() {
			w.Containers = append(w.Containers, p.live())
		}
	}
	for _, e := range s.exits {
		w.Exits = append(w.Exits, e)
	}
	w.Groups = s.stray()
	r.answer(w, nil)
	r.c.greeted = true
	s.trim()
}

// maxFilters bounds the cache of filters; the daemon gives one again when
// Start says that it is not known.
const maxFilters = 256

func (s *Server) putFilter(r *request, m *wire.PutFilter) error {
	if len(m.Code) == 0 || len(m.Code)%8 != 0 { // sizeof sock_filter
		return errdefs.Invalidf("seccomp filter of %d bytes", len(m.Code))
	}
	if got := digest.FromBytes(m.Code); string(got) != m.Digest {
		return errdefs.DataLossf("seccomp filter %s has the digest %s", m.Digest, got)
	}
	if len(s.filters) >= maxFilters {
		for d := range s.filters {
			delete(s.filters, d)
			break
		}
	}
	s.filters[m.Digest] = m.Code
	r.ok()
	return nil
}

// filter returns the filter with a digest. Errors: NotFound.
func (s *Server) filter(digest string) ([]byte, error) {
	if digest == "" {
		return nil, nil
	}
	code, there := s.filters[digest]
	if !there {
		return nil, errdefs.NotFoundf("seccomp filter %s is not known to the supervisor", digest)
	}
	return code, nil
}
