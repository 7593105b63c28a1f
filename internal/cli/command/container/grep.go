package container

import (
	"bytes"
	"io"
	"regexp"
)

// matching passes the lines on that match; what is no whole line yet waits.
type matching struct {
	w    io.Writer
	re   *regexp.Regexp
	rest []byte
}

// Write implements io.Writer.
func (m *matching) Write(p []byte) (int, error) {
	m.rest = append(m.rest, p...)
	for {
		n := bytes.IndexByte(m.rest, '\n')
		if n < 0 {
			return len(p), nil
		}
		if err := m.pass(m.rest[:n+1]); err != nil {
			return 0, err
		}
		m.rest = m.rest[n+1:]
	}
}

// end passes a last line without newline on.
func (m *matching) end() error { return m.pass(m.rest) }

func (m *matching) pass(line []byte) error {
	if len(line) == 0 || !m.re.Match(bytes.TrimRight(line, "\r\n")) {
		return nil
	}
	_, err := m.w.Write(line)
	return err
}
