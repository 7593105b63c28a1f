package archive

import (
	"errors"
	"io"

	"lade/internal/tarpass"
)

// stream is what produce writes: to be read, or to be written to where it
// belongs without a copy and a goroutine in between (io.WriterTo); then large
// files can be passed (tarpass). It is for one goroutine.
type stream struct {
	produce func(io.Writer) error
	from    io.Closer // what produce reads; closed when that is over

	begun bool
	r     *io.PipeReader // once somebody reads
}

// run produces everything, once.
func (s *stream) run(w io.Writer) error { return errors.Join(s.produce(w), s.from.Close()) }

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	if !s.begun {
		r, w := io.Pipe()
		s.begun, s.r = true, r
		go func() { w.CloseWithError(s.run(w)) }()
	}
	if s.r == nil {
		return 0, io.EOF
	}
	return s.r.Read(p)
}

// WriteTo implements io.WriterTo.
func (s *stream) WriteTo(w io.Writer) (int64, error) {
	if s.begun {
		return io.Copy(w, struct{ io.Reader }{s})
	}
	s.begun = true
	t := &tally{w: w}
	var to io.Writer = t
	if pass, ok := w.(tarpass.Sender); ok {
		to = struct {
			*tally
			tarpass.Sender
		}{t, pass}
	}
	err := s.run(to)
	return t.n, err
}

// Close ends the production.
func (s *stream) Close() error {
	switch {
	case s.r != nil:
		return s.r.Close() // the next write fails
	case !s.begun:
		s.begun = true
		return s.from.Close()
	}
	return nil
}

// tally counts what is written.
type tally struct {
	w io.Writer
	n int64
}

func (t *tally) Write(p []byte) (int, error) {
	n, err := t.w.Write(p)
	t.n += int64(n)
	return n, err
}
