package container

import (
	"io"
	"sync/atomic"
	"syscall"

	"lade/internal/tarpass"
)

// packing is an archive that is made while it is sent: straight into the
// request (io.WriterTo), which saves a copy of everything, or through a pipe.
type packing struct {
	write func(io.Writer) error
	n     atomic.Int64
	r     *io.PipeReader
}

// written returns how many bytes there were so far.
func (p *packing) written() int64 { return p.n.Load() }

// Read implements io.Reader.
func (p *packing) Read(b []byte) (int, error) {
	if p.r == nil {
		r, w := io.Pipe()
		p.r = r
		go func() { w.CloseWithError(p.write(p.counting(w))) }()
	}
	return p.r.Read(b)
}

// WriteTo implements io.WriterTo.
func (p *packing) WriteTo(w io.Writer) (int64, error) {
	err := p.write(p.counting(w))
	return p.written(), err
}

// Close ends a pipe. A request that fails ends by itself.
func (p *packing) Close() error {
	if p.r == nil {
		return nil
	}
	return p.r.Close()
}

// counting returns w so that what goes there is counted; files that are passed,
// too.
func (p *packing) counting(w io.Writer) io.Writer {
	count := writerFunc(func(b []byte) (int, error) {
		n, err := w.Write(b)
		p.n.Add(int64(n))
		return n, err
	})
	if pass, ok := w.(tarpass.Sender); ok {
		return passing{count, pass, &p.n}
	}
	return count
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// passing is a writer that takes files.
type passing struct {
	io.Writer
	to tarpass.Sender
	n  *atomic.Int64
}

// Pass implements tarpass.Sender.
func (p passing) Pass(fd int) {
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) == nil {
		p.n.Add(st.Size)
	}
	p.to.Pass(fd)
}
