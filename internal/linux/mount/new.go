package mount

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/linux/sys"
	"lade/internal/trace"
)

// New mounts the file system kind from source, detached: it is nowhere until it
// is attached, and ends with its last descriptor, which the caller closes. What
// the kernel has to say of a refusal beside its number is in the error. It
// blocks for as long as the file system takes, which a server may make long.
//
// Source: fsopen(2), fsconfig(2), fsmount(2).
func New(kind, source string, o *Options) (fd int, err error) {
	span := trace.Begin(trace.Mount, "fsmount", kind+" "+source)
	defer func() { err = span.End(err) }()
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, sys.Error("fsopen", kind, err)
	}
	defer sys.CloseAll(fs)
	super := o.Super
	if o.ReadOnly() {
		super = append(slices.Clip(super), "ro")
	}
	if source != "" {
		super = append(slices.Clip(super), "source="+source)
	}
	for _, s := range super {
		k, v, ok := strings.Cut(s, "=")
		if ok {
			err = unix.FsconfigSetString(fs, k, v)
		} else {
			err = unix.FsconfigSetFlag(fs, s)
		}
		if err != nil { // without the value, which may be a password
			return -1, reason(fs, "fsconfig", k, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, reason(fs, "fsconfig", kind, err)
	}
	fd, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, int(o.Set))
	return fd, sys.Error("fsmount", kind, err)
}

// Said is an error of the kernel with the words that came with it.
type Said struct {
	Err   error
	Words string
}

func (e *Said) Error() string { return e.Err.Error() + " (" + e.Words + ")" }

func (e *Said) Unwrap() error { return e.Err }

// reason adds the messages that wait in the descriptor of a file system that
// is being set up.
func reason(fs int, op, what string, err error) error {
	err = sys.Error(op, what, err)
	var words []string
	for buf := make([]byte, 1024); len(words) < 8; {
		n, rerr := unix.Read(fs, buf)
		if rerr != nil || n <= 2 {
			break
		}
		// "e " is an error, "w " a warning, "i " a note.
		words = append(words, strings.TrimSpace(string(buf[2:n])))
	}
	if len(words) == 0 {
		return err
	}
	return &Said{err, strings.Join(words, "; ")}
}

// Clone makes a detached copy of the mount at the open file or directory fd, with
// the given attributes; with Recursive, of what is mounted below, too.
//
// Source: open_tree(2), mount_setattr(2).
func Clone(fd int, o *Options) (tree int, err error) {
	span := trace.Begin(trace.Mount, "open_tree", "")
	defer func() { err = span.End(err) }()
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH)
	if o.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	tree, err = unix.OpenTree(fd, "", flags)
	if err != nil {
		return -1, sys.Error("open_tree", sys.FDPath(fd), err)
	}
	attr := unix.MountAttr{Attr_set: o.Set, Attr_clr: o.Clear, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		sys.CloseAll(tree)
		return -1, sys.Error("mount_setattr", sys.FDPath(fd), err)
	}
	return tree, nil
}

// Attach puts a detached mount at a path of the host. A symbolic link there is
// not followed.
func Attach(tree int, path string) error {
	span := trace.Begin(trace.Mount, "move_mount", path)
	err := unix.MoveMount(tree, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
	return span.End(sys.Error("move_mount", path, err))
}

// Detach takes away everything that is mounted at a path of the host, at once:
// what still uses it keeps it. It is no error if nothing is.
func Detach(path string) error {
	for {
		span := trace.Begin(trace.Mount, "umount", path)
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err == unix.EINVAL || err == unix.ENOENT { // not a mount point, or nothing at all
			return nil
		}
		if span.End(sys.Error("umount2", path, err)) != nil {
			return sys.Error("umount2", path, err)
		}
	}
}

// Below returns the mount points of the caller's mount namespace that are dir or
// below it, the latest mount first.
func Below(dir string) ([]string, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) >= 7 {
			if p := unescape(f[4]); within(p, dir) {
				out = append(out, p)
			}
		}
	}
	slices.Reverse(out)
	return out, nil
}
