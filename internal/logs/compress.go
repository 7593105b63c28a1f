package logs

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"syscall"
	"time"
)

// packed is the end of the name of a compressed file.
const packed = ".gz"

// packedExtra is what a compressed file has in its header's extra field, as
// Docker's have: a reader that wants only what is newer need not unpack it.
type packedExtra struct {
	LastTime time.Time `json:"lastTime"`
}

// packAfter is how old a rotated file gets before it is packed. A log that is
// written so fast that its files are gone by then is not worth the time: packing
// takes ten times that of writing.
const packAfter = time.Second

// compress packs the file that is being rotated, in the background, if it is still
// there after a while.
func (w *file) compress(full *os.File) {
	st, err := full.Stat()
	if err != nil {
		return // it stays as it is, as after every other failure here
	}
	if w.hooks.After == nil {
		w.pack(st)
		return
	}
	w.hooks.After(packAfter, func() { w.pack(st) })
}

// pack packs a rotated file. It is found by its identity: others may be rotated
// meanwhile. A reader that has it open reads it to its end; the header's comment
// says which file it was, so that it finds the next one.
func (w *file) pack(st os.FileInfo) {
	path := w.o.Path
	from := reopen(path, st)
	if from == nil {
		return // rotated out of existence
	}
	tmp := path + "." + identity(st) + ".tmp"
	var failed error
	work := func() { failed = pack(from, st, tmp, w.o.Format) }
	done := func() {
		defer from.Close()
		i, _, err := locate(path, st)
		if err == nil && failed == nil && i > 0 {
			if failed = os.Rename(tmp, rotated(path, i)+packed); failed == nil {
				_ = os.Remove(rotated(path, i)) // while both are there the plain one is read
				return
			}
		}
		_ = os.Remove(tmp) // rotated out of existence, or a full disk
	}
	w.background(work, done)
}

// reopen opens the rotated file that is st; nil if there is none.
func reopen(path string, st os.FileInfo) *os.File {
	i, _, err := locate(path, st)
	if err != nil || i < 1 {
		return nil
	}
	f, err := os.Open(rotated(path, i)) // not there: it is packed already
	if err != nil {
		return nil
	}
	return f
}

// identity names a file whatever its name.
func identity(st os.FileInfo) string {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return strconv.FormatUint(s.Ino, 10)
}

func pack(from *os.File, st os.FileInfo, tmp string, f Format) error {
	to, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	z, err := gzip.NewWriterLevel(to, gzip.BestSpeed)
	if err != nil {
		return err
	}
	z.Comment = identity(st)
	if last, ok := lastTime(from, f); ok {
		if z.Extra, err = json.Marshal(packedExtra{last}); err != nil {
			return errors.Join(err, to.Close())
		}
	}
	_, err = io.Copy(z, io.NewSectionReader(from, 0, st.Size()))
	return errors.Join(err, z.Close(), to.Close())
}

// lastTime returns the time of a file's last message.
func lastTime(f *os.File, form Format) (time.Time, bool) {
	at, n, err := form.tail(f, 1)
	if err != nil || n == 0 {
		return time.Time{}, false
	}
	r := newSource(io.NewSectionReader(f, at, 1<<62), form, nil)
	var d decoder
	line, err := r.next()
	if err != nil {
		return time.Time{}, false
	}
	m, ok := d.read(form, line)
	return m.Time, ok
}
