package layer

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"lade/internal/errdefs"
)

// Compression is how a layer's tar stream is compressed.
type Compression uint8

// The compressions that Decompress tells apart.
const (
	Uncompressed Compression = iota
	Gzip
	Zstd
	Bzip2
	xz
)

var magic = [...]struct {
	c      Compression
	prefix string
}{
	{Gzip, "\x1f\x8b\x08"},
	{Zstd, "\x28\xb5\x2f\xfd"},
	{Bzip2, "BZh"},
	{xz, "\xfd7zXZ\x00"},
}

// String returns the compression's name: "", "gzip", "zstd", "bzip2", "xz".
func (c Compression) String() string {
	return [...]string{"", "gzip", "zstd", "bzip2", "xz"}[c]
}

// maxWindow is the largest zstd window that is accepted, in bytes: what
// `zstd --long` uses. It bounds the memory that a stream can ask for.
const maxWindow = 128 << 20

// readAhead is how many chunks of chunkSize bytes the decompressor may be
// ahead of the reader.
const (
	readAhead = 4
	chunkSize = 256 << 10
)

// Decompress finds out how r is compressed and returns the plain stream. The
// decompressor runs ahead in a goroutine of its own, so that unpacking and
// decompressing use two processors.
//
// The caller must Close the result, which ends the goroutine as soon as a Read
// of r that is under way returns; r itself is not closed. The plain stream
// ends with a DataLoss error if the compressed one is damaged or truncated.
//
// Errors: NotImplemented for xz, DataLoss for a damaged header, what r returns.
func Decompress(r io.Reader) (io.ReadCloser, Compression, error) {
	src := &source{r: r}
	br := bufio.NewReaderSize(src, 64<<10)
	head, err := br.Peek(8)
	if err != nil && err != io.EOF {
		return nil, 0, err
	}
	c := sniff(head)
	var plain io.Reader
	var end func()
	switch c {
	case Uncompressed:
		return io.NopCloser(br), c, nil
	case Gzip:
		plain, err = gzip.NewReader(br)
	case Zstd:
		var d *zstd.Decoder
		// One decoder goroutine needs the least CPU time for each byte; the
		// second processor is busy with unpacking.
		d, err = zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err == nil {
			plain, end = d, d.Close
		}
	case Bzip2:
		plain = bzip2.NewReader(br)
	default:
		return nil, c, errdefs.NotImplementedf("layer: %s compression is not supported", c)
	}
	if err != nil {
		return nil, c, src.explain(c, err)
	}
	return newAhead(plain, func(err error) error { return src.explain(c, err) }, end), c, nil
}

func sniff(head []byte) Compression {
	for _, m := range magic {
		if bytes.HasPrefix(head, []byte(m.prefix)) {
			return m.c
		}
	}
	return Uncompressed
}

// source is what a decompressor reads; it remembers how reading ended, so that
// the failure of the source can be told from damage in what it delivered.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// explain returns the error that the source failed with, else DataLoss: every
// complaint of a decompressor about what it was given means damage.
func (s *source) explain(c Compression, err error) error {
	if s.err != nil {
		return s.err
	}
	return errdefs.DataLossf("layer: damaged %s stream: %w", c, err)
}

// ahead reads a stream in a goroutine, up to readAhead chunks before they are
// asked for.
type ahead struct {
	full chan chunk    // closed after the last chunk
	free chan []byte   // buffers to fill
	done chan struct{} // closed by Close
	cur  chunk
	pos  int
}

// chunk is a piece of the stream and the error that followed it.
type chunk struct {
	b   []byte
	err error
}

func newAhead(r io.Reader, explain func(error) error, end func()) *ahead {
	a := &ahead{
		full: make(chan chunk, readAhead),
		free: make(chan []byte, readAhead),
		done: make(chan struct{}),
	}
	for range readAhead {
		a.free <- nil
	}
	go a.fill(r, explain, end)
	return a
}

func (a *ahead) fill(r io.Reader, explain func(error) error, end func()) {
	defer close(a.full)
	if end != nil {
		defer end()
	}
	for {
		var b []byte
		select {
		case <-a.done:
			return
		case b = <-a.free:
		}
		if b == nil {
			b = make([]byte, chunkSize)
		}
		n, err := readFull(r, b)
		if err != nil && err != io.EOF {
			err = explain(err)
		}
		select {
		case <-a.done:
			return
		case a.full <- chunk{b[:n], err}:
		}
		if err != nil {
			return
		}
	}
}

// readFull fills b unless r ends or fails before, and returns r's own error.
func readFull(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	return n, err
}

func (a *ahead) Read(p []byte) (int, error) {
	for a.pos == len(a.cur.b) {
		if a.cur.err != nil {
			return 0, a.cur.err
		}
		if b := a.cur.b; b != nil {
			a.free <- b[:cap(b)] // never blocks: there are readAhead buffers
		}
		next, ok := <-a.full
		if !ok {
			next = chunk{err: io.ErrClosedPipe}
		}
		a.cur, a.pos = next, 0
	}
	n := copy(p, a.cur.b[a.pos:])
	a.pos += n
	return n, nil
}

// Close ends the goroutine; it may be called once, by the goroutine that Reads.
func (a *ahead) Close() error {
	close(a.done)
	a.cur, a.pos = chunk{err: io.ErrClosedPipe}, 0
	return nil
}
