package logs

import (
	"bytes"
	"errors"
	"time"

	"lade/internal/ids"
)

const (
	maxLine = 16 << 10  // a longer line is split, as Docker's copier does
	batch   = 512 << 10 // encoded bytes after which a write(2) is due
)

// Options say where a log goes and how much of it is kept.
type Options struct {
	Path     string            // "": nothing is kept
	Format   Format            `json:",omitempty"`
	MaxSize  int64             // bytes after which a file is rotated; 0: never
	MaxFile  int               // files kept, the current one included; below 2: one
	Compress bool              `json:",omitempty"` // rotated files
	Attrs    map[string]string // written with every line by FormatJSON
}

// Hooks connect a Writer with who uses it. All may be nil.
type Hooks struct {
	// Sink gets every message when it is complete. Its Line is valid during the
	// call.
	Sink func(Message)
	// Background runs work where it may take long, and then done where the Writer
	// is used; nil: both are run at once.
	Background func(work, done func())
	// After calls f when a time has passed, where the Writer is used; nil: at once.
	After func(d time.Duration, f func())
}

// Buffer is scratch space for Write. One serves any number of writers that
// are used by the same goroutine; the zero value is ready.
type Buffer struct{ out, tail []byte }

// Writer appends to a log. It keeps no buffer but the begin of a line whose
// newline has not come yet. It is not safe for concurrent use.
type Writer struct {
	o     Options
	sink  func(Message)
	enc   encoder // nil: nothing is kept
	file  *file   // as enc
	begun [2]partial
	m     Message // what take passes on: one for each line would be garbage
}

// partial is the line that a stream is in the middle of.
type partial struct {
	text []byte
	at   time.Time // of the first part
	part Part      // the last part that was written; its ID is empty if there is none
}

// encoder writes messages in the form of a file.
type encoder interface {
	// append appends one message to b.out. Messages of one Write that are whole
	// lines have the same stream and time, so b.tail may keep what they share.
	append(b *Buffer, m *Message)
	// lines appends the whole lines that data begins with, up to one that is too
	// long for one message, and until b.out has at least most bytes. It returns
	// the length of what it took. It says what append says of each line.
	lines(b *Buffer, s Stream, at time.Time, data []byte, most int) (used int)
}

// Create opens the log for appending and creates it if needed. The caller must
// Close.
func Create(o Options, h Hooks) (*Writer, error) {
	w := &Writer{o: o, sink: h.Sink}
	if o.Path == "" {
		return w, nil
	}
	var err error
	if w.enc, err = o.Format.encoder(o.Attrs); err != nil {
		return nil, err
	}
	w.file = &file{o: o, hooks: h}
	if err = w.file.open(); err == nil {
		w.file.packLeft()
	}
	return w, err
}

// Write logs what a stream printed at a time. Complete lines are written with
// one write(2) per batch, before Write returns; the begin of a line waits for
// its end, at most 16 kB of it. After an error (a full disk) the lines of the
// batch are lost and the file ends with a whole line.
func (w *Writer) Write(b *Buffer, at time.Time, s Stream, data []byte) error {
	b.out, b.tail = b.out[:0], b.tail[:0]
	l := &w.begun[s-1]
	var failed error
	for len(data) > 0 {
		used := w.lines(b, at, s, data)
		data = data[used:]
		n := -1
		if used == 0 {
			n = bytes.IndexByte(data, '\n')
		}
		switch {
		case used > 0:
		case n >= 0 && len(l.text)+n < maxLine:
			w.take(b, at, s, data[:n+1], true)
			data = data[n+1:]
		case len(l.text)+len(data) < maxLine:
			l.text = append(l.text, data...)
			data = nil
		default:
			n = maxLine - len(l.text)
			w.take(b, at, s, data[:n], false)
			data = data[n:]
		}
		if len(b.out) >= batch || w.file != nil && w.file.full(len(b.out)) {
			failed = errors.Join(failed, w.flush(b))
		}
	}
	return errors.Join(failed, w.flush(b))
}

// lines encodes the whole lines that data begins with, as far as that can be
// done without looking at each, and returns their length.
func (w *Writer) lines(b *Buffer, at time.Time, s Stream, data []byte) int {
	if l := &w.begun[s-1]; w.enc == nil || w.sink != nil || len(l.text) > 0 || l.part.ID != "" {
		return 0
	}
	return w.enc.lines(b, s, at, data, min(batch, w.file.room()))
}

// End logs the last line of a stream that did not end with a newline.
func (w *Writer) End(b *Buffer, at time.Time, s Stream) error {
	b.out, b.tail = b.out[:0], b.tail[:0]
	if len(w.begun[s-1].text) > 0 {
		w.take(b, at, s, nil, false)
	}
	w.begun[s-1] = partial{}
	return w.flush(b)
}

// Clear removes everything that was written. The begin of a line whose newline
// has not come is no part of that. Readers that follow go on with what comes.
func (w *Writer) Clear() error {
	if w.file == nil {
		return nil
	}
	return w.file.clear()
}

// Close closes the file. What End was not called for is lost.
func (w *Writer) Close() error {
	if w.file == nil {
		return nil
	}
	return w.file.close()
}

// Line is the state of a stream that is in the middle of a line.
type Line struct {
	Text    []byte    `json:"text,omitempty"`
	Split   bool      `json:"split,omitempty"` // parts of it are written already
	At      time.Time `json:"at,omitzero"`     // of the first part
	ID      string    `json:"id,omitempty"`    // of Part, as Ordinal
	Ordinal int       `json:"ordinal,omitempty"`
}

// Options returns what the writer was created with.
func (w *Writer) Options() Options { return w.o }

// Lines returns what Write has not written yet, of Stdout and Stderr, for
// another writer of the same log that goes on with it: see Restore.
func (w *Writer) Lines() (lines [2]Line) {
	for i, l := range w.begun {
		lines[i] = Line{Text: l.text, Split: l.part.ID != "", At: l.at, ID: l.part.ID, Ordinal: l.part.Ordinal}
	}
	return lines
}

// Restore continues the lines that another writer was in the middle of.
func (w *Writer) Restore(lines [2]Line) {
	for i, l := range lines {
		w.begun[i] = partial{text: bytes.Clone(l.Text), at: l.At, part: Part{ID: l.ID, Ordinal: l.Ordinal}}
		if l.Split && l.ID == "" { // of a version without numbers
			w.begun[i].part.ID = ids.New()
		}
	}
}

// take passes on the line that is pending plus text: whole, with its newline,
// or a part of it.
func (w *Writer) take(b *Buffer, at time.Time, s Stream, text []byte, whole bool) {
	l := &w.begun[s-1]
	if len(l.text) > 0 {
		text = append(l.text, text...)
		l.text = nil
	}
	m := &w.m
	*m = Message{Stream: s, Time: at, Line: text}
	if !whole || l.part.ID != "" {
		if l.part.ID == "" {
			l.part.ID, l.at = ids.New(), at
		}
		l.part.Ordinal++
		m.Part, m.Time = l.part, l.at // all parts carry the time of the first
		m.Part.Last = whole
		if whole {
			l.part = Part{}
		}
	}
	if w.enc != nil {
		w.enc.append(b, m)
	}
	if w.sink != nil {
		w.sink(*m)
	}
}

// flush writes b.out and rotates when the file is full.
func (w *Writer) flush(b *Buffer) error {
	if len(b.out) == 0 {
		return nil
	}
	defer func() { b.out = b.out[:0] }()
	return w.file.write(b.out)
}
