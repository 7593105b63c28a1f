package snapshot

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// trash deletes directories in the background, one after the other.
type trash struct {
	dir     string
	discard func(path string) error // Form.Discard
	log     *slog.Logger
	wg      sync.WaitGroup

	mu      sync.Mutex
	queue   []string // names below dir; guarded by mu
	running bool     // a goroutine works on queue; guarded by mu
	deep    int      // numbers the directories that were moved up; of that goroutine
}

// newTrash returns a trash for what lies in dir. The caller must close it.
func newTrash(dir string, discard func(string) error, log *slog.Logger) *trash {
	return &trash{dir: dir, discard: discard, log: log}
}

// add hands over a path below the directory; it must be nobody's any more. A
// path that does not exist is nothing to delete.
func (t *trash) add(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue = append(t.queue, name)
	if !t.running {
		t.running = true
		t.wg.Go(t.work)
	}
}

// close waits until everything is deleted. Nothing may be Added after it.
func (t *trash) close() error {
	t.wg.Wait()
	return nil
}

// work deletes until the queue is empty.
func (t *trash) work() {
	for {
		t.mu.Lock()
		batch := t.queue
		t.queue = nil
		t.running = len(batch) > 0
		t.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		if err := t.delete(batch); err != nil {
			t.log.Warn("delete files of removed snapshots; they stay until the next start", "dir", t.dir, "error", err)
		}
	}
}

// delete removes trees. It keeps few directories open, however deep they are.
// What cannot be deleted is tried again when others are: a snapshot may hold up
// the one that it lay on.
func (t *trash) delete(names []string) error {
	root, err := unix.Open(t.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: t.dir, Err: err}
	}
	defer unix.Close(root)
	for {
		failed, err := t.deleteOnce(root, names)
		if len(failed) == 0 || len(failed) >= len(names) {
			return err
		}
		names = failed
	}
}

// deleteOnce removes trees, first come, first served, and returns those that it
// could not.
func (t *trash) deleteOnce(root int, names []string) (failed []string, all error) {
	for queue := names; len(queue) > 0; {
		name := queue[0]
		queue = queue[1:]
		err := t.discard(t.dir + "/" + name)
		if err == nil {
			err = t.remove(root, root, name, 0, &queue)
		}
		if err != nil {
			failed, all = append(failed, name), errors.Join(all, err)
		}
	}
	return failed, all
}

// maxOpen is how many levels of directories are open at once. What is deeper
// is moved up to the top and deleted later.
const maxOpen = 32

// remove deletes name from the directory fd and what is in it.
func (t *trash) remove(root, fd int, name string, depth int, later *[]string) error {
	if depth > maxOpen {
		t.deep++
		up := ".deep-" + strconv.Itoa(t.deep)
		*later = append(*later, up)
		return pathError("rename", name, unix.Renameat(fd, name, root, up))
	}
	// Most directories are empty: those that overlay works in, and what a
	// container did not write to.
	if err := unix.Unlinkat(fd, name, unix.AT_REMOVEDIR); err == nil || err == unix.ENOENT {
		return nil
	}
	d, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	switch err {
	case nil:
	case unix.ENOENT:
		return nil
	case unix.ENOTDIR, unix.ELOOP:
		return pathError("unlink", name, unix.Unlinkat(fd, name, 0))
	default:
		return pathError("open", name, err)
	}
	f := os.NewFile(uintptr(d), name)
	defer f.Close()
	for seen := 0; ; {
		list, err := f.ReadDir(256)
		seen += len(list)
		var failed error
		for _, e := range list {
			if e.IsDir() {
				failed = errors.Join(failed, t.remove(root, d, e.Name(), depth+1, later))
			} else if err := unix.Unlinkat(d, e.Name(), 0); err != nil && err != unix.ENOENT {
				failed = errors.Join(failed, pathError("unlink", e.Name(), err))
			}
		}
		if failed != nil {
			return failed
		}
		if err != nil && err != io.EOF {
			return err
		}
		if err == io.EOF {
			err := unix.Unlinkat(fd, name, unix.AT_REMOVEDIR)
			if err != unix.ENOTEMPTY || seen == 0 {
				return pathError("rmdir", name, err)
			}
			// Some file systems leave entries out of a listing while others
			// are being removed: list again until nothing is there.
			seen = 0
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return err
			}
		}
	}
}

func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}
