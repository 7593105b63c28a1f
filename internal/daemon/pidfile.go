package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"lade/internal/errdefs"
	"lade/internal/linux/proc"
)

// slack is how much younger than its file a process may look: the kernel's
// boot time moves when the clock is set.
const slack = 5 * time.Second

// WritePIDFile notes our process id, and refuses while the process that the
// file names still runs. The returned function removes the file, if it is still
// ours. Errors: Conflict for a second daemon.
func WritePIDFile(path string) (remove func() error, err error) {
	if pid, ok := running(path); ok {
		return nil, errdefs.Conflictf("failed to start daemon, ensure no other daemon is running or delete %s: process with PID %d is still running", path, pid)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	own := strconv.Itoa(os.Getpid())
	temporary := path + "." + own
	if err := os.WriteFile(temporary, []byte(own), 0o644); err != nil {
		return nil, err
	}
	if err := os.Rename(temporary, path); err != nil {
		return nil, errors.Join(err, os.Remove(temporary))
	}
	return func() error {
		if b, err := os.ReadFile(path); err != nil || string(b) != own {
			return nil
		}
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}, nil
}

// running returns the process that a file names, if it runs and did so when the
// file was written: after a crash another process may have the number.
func running(path string) (int, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 0 || pid == os.Getpid() {
		return 0, false
	}
	p, err := proc.Read(pid)
	if err != nil {
		return 0, errdefs.KindOf(err) != errdefs.NotFound
	}
	fi, err := os.Stat(path)
	boot, err2 := proc.BootTime()
	if err != nil || err2 != nil {
		return pid, true
	}
	return pid, !boot.Add(p.Start).After(fi.ModTime().Add(slack))
}
