package logs

import (
	"bytes"
	"io"
	"os"
)

// maxRecord is the longest line of a log that is read: 16 kB with each byte
// escaped, and attributes. What is longer is no message.
const maxRecord = 1 << 20

// lineReader reads lines of a file that may grow. A line without its newline
// is kept until the rest was written.
type lineReader struct {
	f        *os.File
	buf      []byte
	from, to int  // what is read and not used: buf[from:to]
	seen     int  // bytes after from without a newline
	skip     bool // the begin of the line was thrown away: too long
}

// next returns the next line without its newline; io.EOF where the file ends
// now. The line is valid until the next call.
func (l *lineReader) next() ([]byte, error) {
	for {
		if i := bytes.IndexByte(l.buf[l.from+l.seen:l.to], '\n'); i >= 0 {
			end := l.from + l.seen + i
			line := l.buf[l.from:end]
			l.from, l.seen = end+1, 0
			if l.skip {
				l.skip = false
				continue
			}
			return line, nil
		}
		l.seen = l.to - l.from
		if l.seen >= maxRecord {
			l.skip = true
			l.from, l.to, l.seen = 0, 0, 0
		}
		l.room()
		n, err := l.f.Read(l.buf[l.to:])
		l.to += n
		if n == 0 {
			return nil, orEOF(err)
		}
	}
}

// room makes space for a read.
func (l *lineReader) room() {
	if l.from > 0 {
		copy(l.buf, l.buf[l.from:l.to])
		l.to -= l.from
		l.from = 0
	}
	if l.to == len(l.buf) {
		l.buf = append(l.buf, make([]byte, max(64<<10, len(l.buf)))...)
	}
}

// grown reports whether the file has more bytes than were read.
func (l *lineReader) grown() bool {
	st, err := l.f.Stat()
	if err != nil {
		return false
	}
	at, err := l.f.Seek(0, io.SeekCurrent)
	return err == nil && st.Size() > at
}

func orEOF(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}
