package events

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/moby/moby/api/types/events"
)

// former is added to the name of the file that was full last.
const former = ".1"

// journal is the ring on disk: two files of at most keep messages each, one
// JSON object per line. The newer one is appended to; when it is full it
// replaces the other. Nothing is synced: what a power cut takes are events of the
// last seconds, and a line that is not whole is skipped.
type journal struct {
	path string
	f    *os.File
	n    int // messages in it
}

// Keep makes the log go on with the messages of the file at path, and write
// there what is published, so that both survive the process. It is called before
// the first Publish, and at most once. The caller must Close.
func (l *Log) Keep(path string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	old, err := load(path + former)
	if err != nil {
		return err
	}
	present, err := load(path)
	if err != nil {
		return err
	}
	j := &journal{path: path, n: len(present)}
	if err := j.open(); err != nil {
		return err
	}
	all := append(old, present...)
	for _, m := range all[max(0, len(all)-keep):] {
		l.add(m)
		l.stamp = m.TimeNano
	}
	l.kept = j
	return nil
}

// Close closes what Keep has opened. What is published later is not kept.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kept == nil {
		return nil
	}
	err := l.kept.f.Close()
	l.kept = nil
	return err
}

// load reads the messages of a file; none if it is not there.
func load(path string) (all []events.Message, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadSlice('\n')
		var m events.Message
		switch {
		case errors.Is(err, bufio.ErrBufferFull): // no event is so long: the rest of the line is skipped, too
		case err == io.EOF:
			return all, nil
		case err != nil:
			return nil, err
		case json.Unmarshal(line, &m) == nil && m.TimeNano != 0:
			all = append(all, m)
		}
	}
}

// open opens the file for appending, after a whole line.
func (j *journal) open() error {
	f, err := os.OpenFile(j.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	j.f = f
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return err
	}
	last := make([]byte, 1)
	if _, err = f.ReadAt(last, st.Size()-1); err == nil && last[0] != '\n' {
		_, err = f.WriteString("\n")
	}
	return err
}

// add appends a message. A disk that is full loses it for later readers only.
func (j *journal) add(m *events.Message) error {
	if j.n >= keep {
		if err := j.turn(); err != nil {
			return err
		}
	}
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	j.n++
	_, err = j.f.Write(append(line, '\n'))
	return err
}

// turn begins a new file.
func (j *journal) turn() error {
	// It is gone where an earlier turn could not make the new one.
	if err := os.Rename(j.path, j.path+former); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	old := j.f
	if err := j.open(); err != nil {
		return err
	}
	j.n = 0
	return old.Close()
}
