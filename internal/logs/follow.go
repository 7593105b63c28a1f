package logs

import (
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// reason says why a wait ended.
type reason int

const (
	changed  reason = iota // the log's directory
	finished               // Done is closed
	stopped                // Cancel is closed, or Until has passed
)

// poll is how often a log is looked at where inotify(7) has no instance left
// (fs.inotify.max_user_instances).
const poll = 200 * time.Millisecond

// watch tells when a log has changed. Its goroutine ends with close.
type watch struct {
	changes <-chan time.Time
	close   func()
}

// newWatch watches the directory of a log, because rotation replaces files.
func newWatch(path string) (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t := time.NewTicker(poll)
		return &watch{t.C, t.Stop}, nil
	}
	f := os.NewFile(uintptr(fd), "inotify")
	dir := filepath.Dir(path)
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_DELETE|unix.IN_DELETE_SELF); err != nil {
		f.Close()
		if err != unix.ENOSPC { // max_user_watches
			return nil, &os.PathError{Op: "inotify_add_watch", Path: dir, Err: err}
		}
		t := time.NewTicker(poll)
		return &watch{t.C, t.Stop}, nil
	}
	changes, ended := make(chan time.Time, 1), make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4<<10)
		for {
			if _, err := f.Read(buf); err != nil {
				return
			}
			select {
			case changes <- time.Time{}:
			default: // told already
			}
		}
	}()
	return &watch{changes, func() { f.Close(); <-ended }}, nil
}

// wait blocks until there may be more to read.
func (r *reader) wait() reason {
	var until <-chan time.Time
	if !r.o.Until.IsZero() {
		t := time.NewTimer(time.Until(r.o.Until))
		defer t.Stop()
		until = t.C
	}
	select {
	case <-r.w.changes:
		return changed
	case <-r.o.Done:
		return finished
	case <-until:
		return stopped
	case <-r.o.Cancel:
		return stopped
	}
}
