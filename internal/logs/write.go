package logs

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"time"
)

const (
	maxLine = 16 << 10  // a longer line is split, as Docker's copier does
	batch   = 128 << 10 // encoded bytes after which a write(2) is due
)

// Options say where a log goes and how much of it is kept.
type Options struct {
	Path    string
	MaxSize int64             // bytes after which a file is rotated; 0: never
	MaxFile int               // files kept, the current one included; below 2: one
	Attrs   map[string]string // written with every line
}

// Buffer is scratch space for Write. One serves any number of writers that
// are used by the same goroutine; the zero value is ready.
type Buffer struct{ out, tail []byte }

// Writer appends to a log. It keeps no buffer but the begin of a line whose
// newline has not come yet. It is not safe for concurrent use.
type Writer struct {
	o     Options
	f     *os.File // nil after a failed rotation: opened again by the next Write
	size  int64
	limit int64 // size after which the file is rotated; 0: never
	attrs []byte
	lines [2]partial // of Stdout, Stderr
}

// partial is the line that a stream is in the middle of.
type partial struct {
	text  []byte
	split bool      // parts of the line are written already
	at    time.Time // of the first part
}

// Create opens the log for appending and creates it if needed. The caller must
// Close.
func Create(o Options) (*Writer, error) {
	attrs, err := encodeAttrs(o.Attrs)
	if err != nil {
		return nil, err
	}
	w := &Writer{o: o, attrs: attrs}
	return w, w.open()
}

func (w *Writer) open() error {
	f, err := os.OpenFile(w.o.Path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	w.f, w.size, w.limit = f, st.Size(), w.o.MaxSize
	return nil
}

// Write logs what a stream printed at a time. Complete lines are written with
// one write(2) per batch, before Write returns; the begin of a line waits for
// its end, at most 16 kB of it. After an error (a full disk) the lines of the
// batch are lost and the file ends with a whole line.
func (w *Writer) Write(b *Buffer, at time.Time, s Stream, data []byte) error {
	b.out, b.tail = b.out[:0], b.tail[:0]
	l := &w.lines[s-1]
	var failed error
	for len(data) > 0 {
		n := bytes.IndexByte(data, '\n')
		switch {
		case n >= 0 && len(l.text)+n < maxLine:
			w.encode(b, at, s, data[:n], true)
			data = data[n+1:]
		case len(l.text)+len(data) < maxLine:
			l.text = append(l.text, data...)
			data = nil
		default:
			n = maxLine - len(l.text)
			w.encode(b, at, s, data[:n], false)
			data = data[n:]
		}
		if len(b.out) >= batch || w.limit > 0 && w.size+int64(len(b.out)) >= w.limit {
			failed = errors.Join(failed, w.flush(b))
		}
	}
	return errors.Join(failed, w.flush(b))
}

// End logs the last line of a stream that did not end with a newline.
func (w *Writer) End(b *Buffer, at time.Time, s Stream) error {
	b.out, b.tail = b.out[:0], b.tail[:0]
	if len(w.lines[s-1].text) > 0 {
		w.encode(b, at, s, nil, false)
	}
	w.lines[s-1] = partial{}
	return w.flush(b)
}

// Close closes the file. What End was not called for is lost.
func (w *Writer) Close() error {
	if w.f == nil {
		return nil
	}
	return w.f.Close()
}

// Line is the state of a stream that is in the middle of a line.
type Line struct {
	Text  []byte    `json:"text,omitempty"`
	Split bool      `json:"split,omitempty"` // parts of it are written already
	At    time.Time `json:"at,omitzero"`     // of the first part
}

// Options returns what the writer was created with.
func (w *Writer) Options() Options { return w.o }

// Lines returns what Write has not written yet, of Stdout and Stderr, for
// another writer of the same log that goes on with it: see Restore.
func (w *Writer) Lines() (lines [2]Line) {
	for i, l := range w.lines {
		lines[i] = Line{Text: l.text, Split: l.split, At: l.at}
	}
	return lines
}

// Restore continues the lines that another writer was in the middle of.
func (w *Writer) Restore(lines [2]Line) {
	for i, l := range lines {
		w.lines[i] = partial{text: bytes.Clone(l.Text), split: l.Split, at: l.At}
	}
}

// encode appends to b.out the line that is pending plus text, whole (with a
// newline) or as a part.
func (w *Writer) encode(b *Buffer, at time.Time, s Stream, text []byte, whole bool) {
	l := &w.lines[s-1]
	if len(l.text) > 0 {
		text = append(l.text, text...)
		l.text = nil
	}
	b.out = append(b.out, `{"log":"`...)
	b.out = appendEscaped(b.out, text)
	if whole {
		b.out = append(b.out, `\n`...)
	}
	if !whole && !l.split {
		l.split, l.at = true, at
	}
	if l.split { // all parts carry the time of the first
		b.out = appendTail(b.out, s, w.attrs, l.at)
		l.split = !whole
		return
	}
	if len(b.tail) == 0 {
		b.tail = appendTail(b.tail, s, w.attrs, at)
	}
	b.out = append(b.out, b.tail...)
}

// flush writes b.out and rotates when the file is full.
func (w *Writer) flush(b *Buffer) error {
	if len(b.out) == 0 {
		return nil
	}
	defer func() { b.out = b.out[:0] }()
	if w.f == nil {
		if err := w.open(); err != nil {
			return err
		}
	}
	n, err := w.f.Write(b.out)
	if err != nil {
		return errors.Join(err, w.cut(int64(n)))
	}
	w.size += int64(n)
	if w.limit > 0 && w.size >= w.limit {
		return w.rotate()
	}
	return nil
}

// cut removes the last n bytes, a part of a batch, from the file.
func (w *Writer) cut(n int64) error {
	if n == 0 {
		return nil
	}
	st, err := w.f.Stat()
	if err != nil {
		return err
	}
	return w.f.Truncate(st.Size() - n)
}

// rotate renames the file to .1, .1 to .2 and so on, and opens a new one.
// Readers follow by the file's identity, so a file is never cut.
func (w *Writer) rotate() error {
	var err error
	if w.o.MaxFile < 2 {
		err = os.Remove(w.o.Path)
	} else {
		free := 1
		for free < w.o.MaxFile-1 && exists(rotated(w.o.Path, free)) {
			free++
		}
		for ; free > 0 && err == nil; free-- {
			err = os.Rename(rotated(w.o.Path, free-1), rotated(w.o.Path, free))
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // not there: somebody removed it
		w.limit = w.size + w.o.MaxSize // until then it is one longer file
		return err
	}
	err = w.f.Close()
	w.f = nil
	return errors.Join(err, w.open())
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// rotated names the i-th rotated file; 0 is the current one.
func rotated(path string, i int) string {
	if i == 0 {
		return path
	}
	return path + "." + strconv.Itoa(i)
}
