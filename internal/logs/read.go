package logs

import (
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"time"
)

// ReadOptions say which messages are wanted.
type ReadOptions struct {
	Format Format
	// Since and Until choose by the messages' own times, in whatever order these are
	// where somebody has set the clock. Zero: no bound; both bounds are inclusive.
	Since, Until time.Time
	// Tail is how many messages of the present log are read, the last ones,
	// before Since and Until choose among them; negative: all.
	Tail int
	// Follow waits for messages to come, until Done is closed and everything
	// that was written before is read, or until Until has passed.
	Follow bool
	// Done is closed after the last message was written; nil: never.
	Done <-chan struct{}
	// Cancel ends the sequence at once, while it waits; nil: never. It is what a
	// context's Done returns.
	Cancel <-chan struct{}
}

// Open reads the log at path: the rotated files first, oldest to newest, then
// the current one. A log that does not exist yet is empty. A line that is no
// message is skipped. The sequence ends after its first error; the files are
// open while it is ranged over. Each range reads the log anew.
func Open(path string, o ReadOptions) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		r := reader{path: path, began: time.Now(), o: o, yield: yield}
		defer r.close()
		if err := r.run(); err != nil {
			yield(Message{}, err)
		}
	}
}

type reader struct {
	path  string
	began time.Time
	o     ReadOptions
	yield func(Message, error) bool
	w     *watch    // nil without Follow
	files []*source // to be read after at, oldest first
	at    *source   // the file being read, or nil
	d     decoder
}

func (r *reader) close() {
	closeAll(r.files)
	r.at.close()
	if r.w != nil {
		r.w.close()
	}
}

func (r *reader) run() (err error) {
	if r.o.Follow {
		if r.w, err = newWatch(r.path); err != nil {
			return err
		}
	}
	if r.files, err = openAll(r.path, r.o.Format); err != nil {
		return err
	}
	if r.o.Tail >= 0 {
		if err := r.seekTail(); err != nil {
			return err
		}
	}
	for {
		if more, err := r.readAll(); !more || err != nil {
			return err
		}
		if !r.o.Follow {
			return nil
		}
		if more, err := r.follow(); !more || err != nil {
			return err
		}
	}
}

// readAll reads the open files to their present end. It reports whether the
// sequence goes on.
func (r *reader) readAll() (more bool, err error) {
	for {
		if r.at != nil {
			if more, err := r.readFile(); !more || err != nil {
				return false, err
			}
		}
		if len(r.files) == 0 {
			return true, nil
		}
		next := r.files[0]
		r.files = r.files[1:]
		if r.at != nil {
			next.buf = r.at.buf
			r.at.close()
		}
		r.at = next
	}
}

func (r *reader) readFile() (more bool, err error) {
	if r.at.endsBefore(r.o.Since) {
		return true, nil
	}
	for {
		record, err := r.at.next()
		if err == io.EOF {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		m, ok := r.d.read(r.o.Format, record)
		if !ok || m.Time.Before(r.o.Since) {
			continue
		}
		if !r.o.Until.IsZero() && m.Time.After(r.o.Until) {
			if r.written(m.Time) {
				return false, nil
			}
			continue // the clock may have been set back: earlier ones may follow
		}
		if !r.yield(m, nil) {
			return false, nil
		}
	}
}

// written reports whether a message was written since the reading began: all that
// follow it were, too.
func (r *reader) written(at time.Time) bool { return !at.Before(r.began) && !at.After(time.Now()) }

// follow waits until there is more to read. It reports whether the sequence
// goes on.
func (r *reader) follow() (more bool, err error) {
	done := false
	for {
		next, err := r.successor()
		if err != nil {
			return false, err
		}
		switch {
		case next != nil:
			// The file was rotated away before next was opened, so what is in it now
			// is all of it.
			r.files = append(r.files, next)
			return true, nil
		case r.at != nil && r.at.grown():
			return true, nil
		case done:
			return false, nil
		}
		r.at.rest()
		switch r.wait() {
		case finished:
			done = true
		case stopped:
			return false, nil
		}
	}
}

// successor opens the file that was begun after the one being read, or returns
// nil if there is none (yet).
func (r *reader) successor() (*source, error) {
	if r.at == nil {
		return openSource(r.path, r.o.Format)
	}
	at, err := r.at.f.Stat()
	if err != nil {
		return nil, err
	}
	i, last, err := locate(r.path, at)
	if err != nil || i == 0 || i < 0 && last < 0 {
		return nil, err
	}
	next := i - 1
	if i < 0 { // rotated out: go on with the oldest
		next = last
	}
	f, err := openSource(rotated(r.path, next), r.o.Format) // missing in the middle of a rotation
	if f == nil || err != nil {
		return nil, err
	}
	// A rotation since locate would make f the file after the next.
	if j, l, err := locate(r.path, at); err != nil || j != i || i < 0 && l != last {
		f.close()
		return nil, err
	}
	return f, nil
}

// gap is how many numbers in a row may be missing between files: in the middle
// of a rotation one is, and another where the next one overtakes us.
const gap = 2

// locate returns which rotated file of the log a file is now (0: the current
// one), or was packed into, or -1, and the number of the oldest file there is,
// or -1.
func locate(path string, file fs.FileInfo) (i, last int, err error) {
	last = -1
	for n := 0; ; n++ {
		same, err := statRotated(rotated(path, n), file)
		switch {
		case err == nil && same:
			return n, n, nil
		case err == nil:
			last = n
		case !errors.Is(err, fs.ErrNotExist):
			return -1, last, err
		case n-last > gap:
			return -1, last, nil
		}
	}
}

// openAll opens the files of a log, oldest first. A rotation meanwhile makes
// it start over.
func openAll(path string, form Format) ([]*source, error) {
	for {
		var files []*source
		missing := 0 // in a row
		for n := 0; missing <= gap; n++ {
			f, err := openSource(rotated(path, n), form)
			switch {
			case err != nil:
				closeAll(files)
				return nil, err
			case f != nil:
				files = append([]*source{f}, files...)
				missing = 0
			default:
				missing++
			}
		}
		if len(files) == 0 {
			return nil, nil
		}
		newest, err := files[len(files)-1].f.Stat()
		if err != nil {
			closeAll(files)
			return nil, err
		}
		if i, _, err := locate(path, newest); err != nil || i <= 0 {
			// i < 0: removed with its container; read what we have.
			return files, err
		}
		closeAll(files)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return openRotated(path, form)
		}
	}
}

// openRotated opens the files of a log that has no current one.
func openRotated(path string, form Format) (files []*source, err error) {
	for n := 1; ; n++ {
		f, err := openSource(rotated(path, n), form)
		if f == nil && err == nil {
			return files, nil
		}
		if err != nil {
			closeAll(files)
			return nil, err
		}
		files = append([]*source{f}, files...)
	}
}

func closeAll(files []*source) {
	for _, f := range files {
		f.close()
	}
}

// seekTail drops what comes before the last Tail messages.
func (r *reader) seekTail() error {
	want := r.o.Tail
	for i := len(r.files) - 1; i >= 0; i-- {
		n, err := r.files[i].seekTail(want)
		if err != nil {
			return err
		}
		if want -= n; want == 0 {
			closeAll(r.files[:i])
			r.files = r.files[i:]
			return nil
		}
	}
	return nil
}

// tailOffset returns where the last want complete lines of a file begin, and
// how many there are (at most want). It reads backwards, only what it needs.
func tailOffset(f *os.File, want int) (at int64, n int, err error) {
	st, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	buf := make([]byte, 32<<10)
	end := int64(-1) // of the last complete line
	for pos := st.Size(); pos > 0; {
		k := min(pos, int64(len(buf)))
		pos -= k
		if _, err := f.ReadAt(buf[:k], pos); err != nil {
			return 0, 0, err
		}
		for j := k - 1; j >= 0; j-- {
			if buf[j] != '\n' {
				continue
			}
			switch {
			case end < 0:
				end = pos + j + 1
				if want == 0 {
					return end, 0, nil
				}
			default:
				if n++; n == want {
					return pos + j + 1, n, nil
				}
			}
		}
	}
	if end >= 0 {
		n++
	}
	return 0, n, nil
}
