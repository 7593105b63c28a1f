package selinux

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/sys"
	"lade/internal/linux/xattr"
	"lade/internal/trace"
)

const attribute = "security.selinux"

// kept are what belongs to the host as a whole: with another label on them it
// would stop working.
var kept = []string{
	"/", "/bin", "/boot", "/dev", "/etc", "/etc/passwd", "/etc/pki", "/etc/shadow", "/home", "/lib", "/lib64", "/media", "/opt", "/proc",
	"/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib", "/var/log",
}

// CheckRelabel refuses what must keep its label: the directories of the host
// itself, by whatever name. Errors: Invalid.
func CheckRelabel(path string) error {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		real, err = filepath.Clean(path), nil
	}
	if err == nil && (slices.Contains(kept, filepath.Clean(path)) || slices.Contains(kept, real)) {
		err = errdefs.Invalidf("SELinux relabeling of %s is not allowed", path)
	}
	return err
}

// Relabel gives a file, or a directory with everything below it, the label c.
// Symbolic links are labelled, not followed, but for those in path itself: who
// may write there meanwhile cannot lead it elsewhere. Files that have the label
// are left alone, and so are those on file systems without labels; what
// disappears meanwhile is no error. It takes as long as there are files.
//
// Errors: Invalid for what CheckRelabel refuses and for a label that the policy
// does not have.
func Relabel(path string, c Context) (err error) {
	if err := CheckRelabel(path); err != nil {
		return err
	}
	span := trace.Begin(trace.Mount, "relabel", path)
	defer func() { err = span.End(err) }()
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	dir, name := filepath.Split(real)
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return sys.Error("open", dir, err)
	}
	defer sys.CloseAll(fd)
	err = relabel(fd, name, []byte(c.String()+"\x00"))
	if errors.Is(err, unix.EINVAL) {
		return errdefs.Invalidf("the SELinux policy has no context %q: %w", c.String(), err)
	}
	return err
}

// relabel labels an entry of a directory and what is below it, the entry first,
// as whoever makes a file in it meanwhile lets that one have the new label.
func relabel(dir int, name string, label []byte) error {
	switch err := setLabel(dir, name, label); {
	case gone(err), xattr.Unsupported(err):
	case err != nil:
		return err
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if gone(err) || err == unix.ENOTDIR || err == unix.ELOOP {
		return nil
	}
	if err != nil {
		return sys.Error("openat", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	for {
		names, err := f.Readdirnames(256)
		for _, n := range names {
			if err := relabel(fd, n, label); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func setLabel(dir int, name string, label []byte) error {
	has, err := xattr.GetAt(dir, name, attribute)
	if err == nil && string(has) == string(label) {
		return nil
	}
	return xattr.SetAt(dir, name, attribute, label)
}

func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) }
