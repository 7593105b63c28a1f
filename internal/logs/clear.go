package logs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Remove removes all files of a log that nobody writes. It is idempotent.
func Remove(path string) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries { // the rotated ones first: what is left after a failure is the end of the log
		if number(e.Name(), filepath.Base(path)) > 0 {
			errs = append(errs, removeIfThere(filepath.Join(filepath.Dir(path), e.Name())))
		}
	}
	return errors.Join(append(errs, removeIfThere(path))...)
}

// number returns which rotated file of a log a name is, 0 if it is none.
func number(name, log string) int {
	digits, ok := strings.CutPrefix(strings.TrimSuffix(name, packed), log+".")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || n < 0 || strconv.Itoa(n) != digits {
		return 0
	}
	return n
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// clear removes the files and begins a new one. Readers follow by the file's
// identity, so it is not cut.
func (w *file) clear() error {
	err := Remove(w.o.Path)
	if w.f != nil {
		err = errors.Join(err, w.f.Close())
		w.f = nil
	}
	return errors.Join(err, w.open())
}
