package logs

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// packed is the end of the name of a compressed file, unfinished that of one that
// is being written.
const (
	packed     = ".gz"
	unfinished = ".tmp"
)

// packedExtra is what a compressed file has in its header's extra field, as
// Docker's have: a reader that wants only what is newer need not unpack it. The
// time is the latest of its messages, which is not that of the last one where
// somebody set the clock back.
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
	w.later(func() { w.pack(st) })
}

// later calls f when packAfter has passed, or does without.
func (w *file) later(f func()) {
	if w.hooks.After == nil {
		f()
		return
	}
	w.hooks.After(packAfter, f)
}

// packLeft packs, after the same while, what another writer of the log has rotated
// and then had no time to pack, and removes what it had begun. A log without
// rotated files has nothing left.
func (w *file) packLeft() {
	path := w.o.Path
	// In the middle of a rotation the first is missing.
	if !w.o.Compress || w.o.MaxFile < 2 || !exists(rotated(path, 1)) && !exists(rotated(path, 2)) {
		return
	}
	w.later(func() {
		// In the background there is one work at a time: no file of one under way.
		w.background(func() { removeBegun(path) }, func() {
			for n := w.o.MaxFile - 1; n > 0; n-- {
				if st, err := os.Lstat(rotated(path, n)); err == nil {
					w.pack(st)
				}
			}
		})
	})
}

// removeBegun removes the files of a pack that was cut off.
func removeBegun(path string) {
	dir, log := filepath.Split(path)
	entries, _ := os.ReadDir(dir) // what fails here is tried again by the next writer
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), log+".") && strings.HasSuffix(e.Name(), unfinished) {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
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
	tmp := path + "." + identity(st) + unfinished
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
	if at := latest(from, st.Size(), f); !at.IsZero() {
		if z.Extra, err = json.Marshal(packedExtra{at}); err != nil {
			return errors.Join(err, to.Close())
		}
	}
	_, err = io.Copy(z, io.NewSectionReader(from, 0, st.Size()))
	return errors.Join(err, z.Close(), to.Close())
}

// latest returns the latest time of the messages that a file begins with.
func latest(f *os.File, size int64, form Format) (at time.Time) {
	r := newSource(io.NewSectionReader(f, 0, size), form, nil)
	var d decoder
	for {
		record, err := r.next()
		if err != nil {
			return at
		}
		if m, ok := d.read(form, record); ok && m.Time.After(at) {
			at = m.Time
		}
	}
}
