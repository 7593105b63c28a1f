package mount

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/linux/sys"
)

// Info is a line of mountinfo, as far as it is of use.
type Info struct {
	Point string // where it is mounted
	// Shared says that mounts made below spread to the peers of this one, Slave
	// that it receives those of its master.
	Shared, Slave bool
}

// Containing returns the mount of the caller's mount namespace that a path is
// on; symbolic links are followed. Errors: of the file system.
//
// Source: proc_pid_mountinfo(5); mount_namespaces(7), "Shared subtrees".
func Containing(path string) (Info, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return Info{}, err
	}
	raw, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return Info{}, err
	}
	found, ok := containing(string(raw), real)
	if !ok { // outside of the root directory
		return Info{}, sys.Error("mountinfo", path, unix.ENOENT)
	}
	return found, nil
}

// containing finds the mount of a clean absolute path: the deepest mount point
// above it, and of several mounts there the last, which covers the others.
func containing(mountinfo, path string) (found Info, ok bool) {
	for line := range strings.Lines(mountinfo) {
		f := strings.Fields(line)
		if len(f) < 7 {
			continue
		}
		m := Info{Point: unescape(f[4])}
		if !within(path, m.Point) || len(m.Point) < len(found.Point) {
			continue
		}
		for _, o := range f[6:] {
			if o == "-" {
				break
			}
			m.Shared = m.Shared || strings.HasPrefix(o, "shared:")
			m.Slave = m.Slave || strings.HasPrefix(o, "master:")
		}
		found, ok = m, true
	}
	return found, ok
}

// within reports whether path is dir or below it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// unescape decodes the octal escapes of mountinfo.
func unescape(s string) string {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(s, `\`)
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		if len(after) >= 3 {
			if c, err := strconv.ParseUint(after[:3], 8, 8); err == nil {
				b.WriteByte(byte(c))
				s = after[3:]
				continue
			}
		}
		b.WriteByte('\\')
		s = after
	}
}
