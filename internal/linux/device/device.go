package device

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// skipped are directories of /dev that a container has its own of, or that are
// no devices of the machine.
var skipped = [...]string{"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"}

// Find returns the device at a host path, with its owner and mode; of a
// directory, every device below it. /dev/console is left out below /dev.
// Errors: Invalid if the path is no device, or does not exist.
func Find(path string) ([]specs.LinuxDevice, error) {
	d, err := stat(path)
	if err == nil {
		return []specs.LinuxDevice{d}, nil
	}
	fi, statErr := os.Stat(path)
	if statErr != nil || !fi.IsDir() {
		return nil, errdefs.Invalidf("error gathering device information while adding custom device %q: %w", path, err)
	}
	var out []specs.LinuxDevice
	err = filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil // a node that went away, or that nobody may read
		case e.IsDir():
			for _, s := range skipped {
				if p != path && e.Name() == s {
					return fs.SkipDir
				}
			}
			return nil
		case p == "/dev/console" || strings.HasPrefix(e.Name(), "ptmx"):
			return nil
		}
		if e.Type()&fs.ModeDevice == 0 {
			return nil
		}
		if d, err := stat(p); err == nil {
			out = append(out, d)
		}
		return nil
	})
	return out, err
}

func stat(path string) (specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		if err == unix.ENOENT {
			return specs.LinuxDevice{}, errdefs.Invalidf("no such file or directory")
		}
		return specs.LinuxDevice{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	d := specs.LinuxDevice{Path: path, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)), UID: &st.Uid, GID: &st.Gid}
	mode := os.FileMode(st.Mode & 0o777)
	d.FileMode = &mode
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		d.Type = "b"
	case unix.S_IFCHR:
		d.Type = "c"
	case unix.S_IFIFO:
		d.Type = "p"
	default:
		return d, errdefs.Invalidf("not a device node")
	}
	return d, nil
}
