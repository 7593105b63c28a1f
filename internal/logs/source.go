package logs

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

// maxRecord is the longest record of a log that is read: 16 kB with each byte
// escaped, and attributes. What is longer is no message.
const maxRecord = 1 << 20

// A file is read in small pieces until one comes full, then in large ones.
const (
	small = 8 << 10
	large = 256 << 10
)

// source reads the records of one file, which may grow. A record that is not
// complete is kept until the rest was written.
type source struct {
	f    *os.File // nil: none
	r    io.Reader
	form Format
	pack *gzip.Reader // what unpacks f; nil: it is not packed
	drop int          // records to skip

	buf      []byte
	full     bool // the last read filled it: there is more than a little
	from, to int  // what is read and not used: buf[from:to]
	seen     int  // bytes after from without a newline
	skip     bool // the begin of the line was thrown away: too long
}

func newSource(r io.Reader, form Format, f *os.File) *source {
	return &source{f: f, r: r, form: form}
}

// openSource opens a rotated file, or the current one, packed or not; nil if it
// is not there. An unreadable packed file is as good as none.
func openSource(path string, form Format) (*source, error) {
	f, err := openIfThere(path)
	if err != nil {
		return nil, err
	}
	if f != nil {
		return newSource(f, form, f), nil
	}
	if f, err = openIfThere(path + packed); f == nil || err != nil {
		return nil, err
	}
	s := newSource(nil, form, f)
	if s.pack, err = gzip.NewReader(f); err != nil {
		f.Close()
		return nil, nil
	}
	s.r = s.pack
	return s, nil
}

func (s *source) close() {
	if s != nil && s.f != nil {
		s.f.Close()
	}
}

// endsBefore reports whether every message of a packed file is older; false if
// that cannot be told without reading it.
func (s *source) endsBefore(t time.Time) bool {
	if s.pack == nil || t.IsZero() {
		return false
	}
	var extra packedExtra
	return json.Unmarshal(s.pack.Extra, &extra) == nil && !extra.LastTime.IsZero() && extra.LastTime.Before(t)
}

// seekTail skips what comes before the last want messages, and returns how many
// there are (at most want). A packed file has to be read for that.
func (s *source) seekTail(want int) (n int, err error) {
	if s.pack == nil {
		at, n, err := s.form.tail(s.f, want)
		if err == nil {
			_, err = s.f.Seek(at, io.SeekStart)
		}
		return n, err
	}
	z, err := gzip.NewReader(io.NewSectionReader(s.f, 0, 1<<62))
	if err != nil {
		return 0, err
	}
	all := newSource(z, s.form, nil)
	for {
		if _, err := all.next(); err != nil {
			break // its own reader will say what is wrong with it
		}
		n++
	}
	s.drop = max(0, n-want)
	return n - s.drop, nil
}

// next returns the next record without what separates it from others; io.EOF
// where the file ends now. The record is valid until the next call.
func (s *source) next() ([]byte, error) {
	for {
		record, err := s.read()
		if err != nil || s.drop == 0 {
			return record, err
		}
		s.drop--
	}
}

func (s *source) read() ([]byte, error) {
	if s.form == FormatLocal {
		return s.frame()
	}
	return s.line()
}

func (s *source) line() ([]byte, error) {
	for {
		if i := bytes.IndexByte(s.buf[s.from+s.seen:s.to], '\n'); i >= 0 {
			end := s.from + s.seen + i
			line := s.buf[s.from:end]
			s.from, s.seen = end+1, 0
			if s.skip {
				s.skip = false
				continue
			}
			return line, nil
		}
		s.seen = s.to - s.from
		if s.seen >= maxRecord {
			s.skip = true
			s.from, s.to, s.seen = 0, 0, 0
		}
		if err := s.more(); err != nil {
			return nil, err
		}
	}
}

// frame returns the next LogEntry. What follows bytes that are no frame cannot
// be found: the file ends there.
func (s *source) frame() ([]byte, error) {
	for {
		n, ok := frame(s.buf[s.from:s.to])
		if !ok {
			return nil, io.EOF
		}
		if n > 0 && n <= s.to-s.from {
			record := s.buf[s.from+sizeLen : s.from+n-sizeLen]
			s.from += n
			return record, nil
		}
		if err := s.more(); err != nil {
			return nil, err
		}
	}
}

// more reads what there is; io.EOF where the file ends now.
func (s *source) more() error {
	s.room()
	n, err := s.r.Read(s.buf[s.to:])
	s.to += n
	s.full = s.to == len(s.buf)
	switch {
	case n > 0:
		return nil
	case s.pack != nil && err != nil: // a damaged file ends where it is damaged
		return io.EOF
	}
	return orEOF(err)
}

// room makes space for a read.
func (s *source) room() {
	if s.from > 0 {
		copy(s.buf, s.buf[s.from:s.to])
		s.to -= s.from
		s.from = 0
	}
	switch {
	case s.full && len(s.buf) < large:
		s.buf = append(s.buf, make([]byte, large-len(s.buf))...)
	case s.to == len(s.buf):
		s.buf = append(s.buf, make([]byte, max(small, len(s.buf)))...)
	}
}

// rest gives the buffer back before a wait, so that who follows a quiet log
// costs little.
func (s *source) rest() {
	if s != nil && s.from == s.to {
		s.buf, s.full, s.from, s.to, s.seen = nil, false, 0, 0, 0
	}
}

// grown reports whether the file has more bytes than were read.
func (s *source) grown() bool {
	if s.pack != nil {
		return false
	}
	st, err := s.f.Stat()
	if err != nil {
		return false
	}
	at, err := s.f.Seek(0, io.SeekCurrent)
	return err == nil && st.Size() > at
}

func orEOF(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}

func openIfThere(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return f, err
}

// statRotated describes a rotated file of a log, packed or not. same reports
// whether it is the given file, or was made of it.
func statRotated(path string, file fs.FileInfo) (same bool, err error) {
	st, err := os.Stat(path)
	if err == nil {
		return os.SameFile(st, file), nil
	}
	if !errors.Is(err, fs.ErrNotExist) || strings.HasSuffix(path, packed) {
		return false, err
	}
	if st, err = os.Stat(path + packed); err != nil {
		return false, err
	}
	if os.SameFile(st, file) {
		return true, nil
	}
	f, err := os.Open(path + packed)
	if err != nil {
		return false, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	return err == nil && z.Comment == identity(file), nil
}
