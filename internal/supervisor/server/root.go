package server

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/supervisor/wire"
)

// rootSettles is how long after something was deleted in the root we look what
// is left: who deletes one thing there deletes others, too.
const rootSettles = 100 * time.Millisecond

// rootWatch notices when somebody wipes the root: a daemon that comes then would
// find nobody, and start another supervisor. Everything in it is made again from
// what we know.
//
// Source: inotify(7).
type rootWatch struct {
	s       *Server
	fd      int
	looking bool // a timer runs
}

// watchRoot begins to watch. Without an instance of inotify left it does
// without.
func (s *Server) watchRoot() {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil { // EMFILE: fs.inotify.max_user_instances
		s.log.Debug("the root is not watched", "error", err)
		return
	}
	w := &rootWatch{s: s, fd: fd}
	err = w.add()
	if err == nil {
		err = s.poll.set(fd, w, unix.EPOLLIN)
	}
	if err != nil {
		s.log.Debug("the root is not watched", "error", err)
		unix.Close(fd)
	}
}

func (w *rootWatch) add() error {
	_, err := unix.InotifyAddWatch(w.fd, w.s.o.Root, unix.IN_DELETE|unix.IN_MOVED_FROM|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_ONLYDIR)
	return os.NewSyscallError("inotify_add_watch", err)
}

// ready implements watcher.
func (w *rootWatch) ready(uint32) {
	var b [4096]byte
	for { // what was deleted does not matter
		if _, err := unix.Read(w.fd, b[:]); err != nil && err != unix.EINTR {
			break
		}
	}
	if !w.looking {
		w.looking = true
		w.s.poll.after(rootSettles, w.look)
	}
}

// look makes the root again if our socket is not there.
func (w *rootWatch) look() {
	w.looking = false
	s := w.s
	if s.ending {
		return
	}
	if _, err := os.Lstat(filepath.Join(s.o.Root, wire.SocketName)); !errors.Is(err, os.ErrNotExist) {
		return // ours, or that of another who was faster
	}
	err := s.remakeRoot()
	if err == nil {
		err = w.add()
	}
	if err != nil {
		s.log.Error("what was deleted cannot be made again", "root", s.o.Root, "error", err)
		return
	}
	s.log.Warn("somebody has deleted what is ours; it is made again", "root", s.o.Root)
}

// remakeRoot takes the root once more and writes down what we know. Errors:
// Conflict if another server has it by now.
func (s *Server) remakeRoot() error {
	if err := os.MkdirAll(s.o.Root, 0o711); err != nil {
		return err
	}
	lock, err := s.takeLock()
	if err != nil {
		return err
	}
	unix.Close(s.lock)
	s.lock = lock
	sock, err := wire.Listen(s.o.Root)
	if err != nil {
		return err
	}
	if err := s.poll.set(sock, listener{s}, unix.EPOLLIN); err != nil {
		unix.Close(sock)
		return err
	}
	s.poll.drop(s.sock)
	unix.Close(s.sock)
	s.sock, s.o.Socket = sock, 0
	return errors.Join(s.noteExits(), s.noteGroups())
}

// takeLock makes the root ours alone for as long as the descriptor is open.
// Errors: Conflict.
func (s *Server) takeLock() (int, error) {
	path := filepath.Join(s.o.Root, "supervisor.lock")
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	switch err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err {
	case nil:
		return fd, nil
	case unix.EWOULDBLOCK:
		unix.Close(fd)
		return -1, errdefs.Conflictf("another supervisor runs in %s", s.o.Root)
	default:
		unix.Close(fd)
		return -1, &os.PathError{Op: "flock", Path: path, Err: err}
	}
}
