package logs

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"strconv"
)

// file is a log on disk: the file that is written and the rotated ones.
type file struct {
	o     Options
	hooks Hooks
	f     *os.File // nil after a failed rotation: opened again by the next write
	size  int64
	limit int64 // size after which the file is rotated; 0: never
	ends  int   // files that are being discarded in the background
}

func (w *file) open() error {
	f, err := os.OpenFile(w.o.Path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err == nil && w.o.Format == FormatLocal && st.Size() > 0 {
		st, err = mend(f, st)
	}
	if err != nil {
		f.Close()
		return err
	}
	w.f, w.size, w.limit = f, st.Size(), w.o.MaxSize
	return nil
}

func (w *file) close() error {
	if w.f == nil {
		return nil
	}
	return w.f.Close()
}

// full reports whether the file is due for rotation with n more bytes.
func (w *file) full(n int) bool { return w.limit > 0 && w.size+int64(n) >= w.limit }

// room is how many bytes may be written before the file is due for rotation.
func (w *file) room() int {
	if w.limit <= 0 {
		return math.MaxInt
	}
	return int(max(0, w.limit-w.size))
}

// write appends whole messages and rotates when the file is full. After an
// error nothing of them is in it.
func (w *file) write(b []byte) error {
	if w.f == nil {
		if err := w.open(); err != nil {
			return err
		}
	}
	n, err := w.f.Write(b)
	if err != nil {
		return errors.Join(err, w.cut(int64(n)))
	}
	w.size += int64(n)
	if w.full(0) {
		return w.rotate()
	}
	return nil
}

// cut removes the last n bytes, a part of a batch, from the file.
func (w *file) cut(n int64) error {
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
func (w *file) rotate() error {
	var err error
	free := 0
	for free < w.o.MaxFile-1 && (free == 0 || exists(rotated(w.o.Path, free))) {
		free++
	}
	oldest := hold(rotated(w.o.Path, free))
	if free == 0 {
		err = os.Remove(w.o.Path)
	}
	for ; free > 0 && err == nil; free-- {
		err = w.shift(free)
	}
	w.discard(oldest)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // not there: somebody removed it
		w.limit = w.size + w.o.MaxSize // until then it is one longer file
		return err
	}
	full := w.f
	w.f = nil
	if w.o.Compress && w.o.MaxFile > 1 {
		w.compress(full)
	}
	return errors.Join(full.Close(), w.open())
}

// hold opens a rotated file that is about to be removed, packed or not; nil if
// there is none.
func hold(path string) *os.File {
	for _, name := range []string{path, path + packed} {
		if f, err := os.Open(name); err == nil {
			return f
		}
	}
	return nil
}

// maxEnds bounds what a log takes of the disk beside its files.
const maxEnds = 2

// discard closes a file that was removed. That is its end, in which the kernel
// frees its pages and blocks, and with the mount option discard tells the disk:
// 5 to 20 ms for 20 MB.
func (w *file) discard(f *os.File) {
	switch {
	case f == nil:
	case w.ends == maxEnds:
		f.Close()
	default:
		w.ends++
		w.background(func() { f.Close() }, func() { w.ends-- })
	}
}

// background is Hooks.Background, or does without.
func (w *file) background(work, done func()) {
	if w.hooks.Background == nil {
		work()
		done()
		return
	}
	w.hooks.Background(work, done)
}

// shift renames a file to the n-th rotated one, which is replaced.
func (w *file) shift(n int) error {
	from, to := rotated(w.o.Path, n-1), rotated(w.o.Path, n)
	if n > 1 && !present(from) {
		from, to = from+packed, to+packed
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	other := to + packed
	if to == rotated(w.o.Path, n)+packed {
		other = rotated(w.o.Path, n)
	}
	if err := os.Remove(other); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// exists reports whether a rotated file is there, packed or not.
func exists(path string) bool { return present(path) || present(path+packed) }

func present(path string) bool {
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
