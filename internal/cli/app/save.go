package app

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Save writes what open returns to a file, whole or not at all, or to the
// standard output when path is empty. It refuses to write to a terminal.
func Save(e *Env, path, what string, open func() (io.ReadCloser, error)) error {
	if path == "" {
		if e.Out.IsTerminal() {
			return errors.New("cowardly refusing to save to a terminal. Use the -o flag or redirect")
		}
		body, err := open()
		if err != nil {
			return err
		}
		defer body.Close()
		_, err = io.Copy(e.Out, body)
		return err
	}
	if err := checkOutput(path); err != nil {
		return fmt.Errorf("failed to %s: %w", map[string]string{"image": "save image", "container": "export container", "volume": "export volume"}[what], err)
	}
	body, err := open()
	if err != nil {
		return err
	}
	defer body.Close()
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		// A device or a pipe is written to; a rename would replace it.
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, body)
		return errors.Join(err, f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-"+filepath.Base(path))
	if err != nil {
		return err
	}
	_, err = io.Copy(f, body)
	if err = errors.Join(err, f.Chmod(0o600), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func checkOutput(path string) error {
	dir := filepath.Dir(path)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("invalid output path: directory %q does not exist", dir)
	}
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		return fmt.Errorf("invalid output path: %q is a directory", path)
	}
	return nil
}
