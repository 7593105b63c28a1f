package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// startTimeout bounds how long a daemon that we started may take to answer.
const startTimeout = 10 * time.Second

// retryDial is how often the socket is tried besides the wake-ups by inotify:
// between bind(2) and listen(2) a socket exists and refuses.
const retryDial = 20 * time.Millisecond

// Daemon is how an engine is started on this machine.
type Daemon struct {
	Path   string   // the program; empty: laded beside our executable, else on PATH
	Args   []string // after the program's name
	Socket string   // where it is going to answer; empty: DefaultSocket
	Log    string   // file that gets its output; empty: /var/log/laded.log
}

// MayStart reports whether this process is one that starts an engine when none
// answers: root's, with LADE_AUTOSTART not "0".
func MayStart(getenv func(string) string) bool {
	return os.Geteuid() == 0 && getenv("LADE_AUTOSTART") != "0"
}

// Start starts the engine detached from this process, in a session of its own,
// and returns when it answers on its socket. It fails after ten seconds, or as
// soon as the daemon ends, with what the daemon said last.
func (d Daemon) Start(ctx context.Context) error {
	if d.Socket == "" {
		d.Socket = DefaultSocket
	}
	if d.Log == "" {
		d.Log = "/var/log/laded.log"
	}
	if d.Path == "" {
		d.Path = besideOrOnPath("laded")
	}
	if d.Path == "" {
		return fmt.Errorf("Cannot connect to the Docker daemon at unix://%s. Is the docker daemon running? (laded was not found beside this program or on PATH, so it was not started)", d.Socket)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()

	wake, stop, err := watch(filepath.Dir(d.Socket))
	if err != nil {
		return err
	}
	defer stop()

	log, err := os.OpenFile(d.Log, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o640)
	if err != nil {
		return err
	}
	defer log.Close()
	from, err := log.Seek(0, 2)
	if err != nil {
		return err
	}
	cmd := exec.Command(d.Path, d.Args...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	// The daemon normally outlives us; this goroutine then ends with us.
	go func() { ended <- cmd.Wait() }()

	tick := time.NewTicker(retryDial)
	defer tick.Stop()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", d.Socket)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-wake:
		case <-tick.C:
		case err := <-ended:
			return fmt.Errorf("laded ended before it answered (%s): %s", ending(err), lastLines(log, from))
		case <-ctx.Done():
			return fmt.Errorf("laded did not answer at %s within %s, see %s: %s", d.Socket, startTimeout, d.Log, lastLines(log, from))
		}
	}
}

func ending(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

func besideOrOnPath(name string) string {
	if self, err := os.Executable(); err == nil {
		p := filepath.Join(filepath.Dir(self), name)
		if unix.Access(p, unix.X_OK) == nil {
			return p
		}
	}
	p, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return p
}

// lastLines is the end of what was written to log after offset from.
func lastLines(log *os.File, from int64) string {
	b := make([]byte, 2048)
	st, err := log.Stat()
	if err != nil {
		return ""
	}
	n, _ := log.ReadAt(b, max(from, st.Size()-int64(len(b))))
	return string(bytes.TrimSpace(b[:n]))
}

// watch wakes its reader when something appears in dir.
func watch(dir string) (wake <-chan struct{}, stop func(), err error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, nil, os.NewSyscallError("inotify_init1", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	_, err = unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ATTRIB)
	if err != nil {
		return nil, nil, errors.Join(&os.PathError{Op: "inotify_add_watch", Path: dir, Err: err}, f.Close())
	}
	c := make(chan struct{}, 1)
	go func() {
		b := make([]byte, 4096)
		for {
			if _, err := f.Read(b); err != nil {
				return
			}
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}()
	return c, func() { _ = f.Close() }, nil
}
