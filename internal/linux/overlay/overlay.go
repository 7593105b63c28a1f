package overlay

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/linux/sys"
	"lade/internal/trace"
)

// Options say what to mount.
type Options struct {
	Lower []string // directories, the top layer first; at least one
	// Upper and Work take what is written; both empty: read-only.
	Upper, Work string
	// Volatile leaves out every sync of the upper directory: after a crash of
	// the system its contents are void.
	Volatile bool
	// Attrs are MOUNT_ATTR_*.
	Attrs int
	// Base, if not empty, is a directory that all others are below, and Tree the
	// descriptor of a mount of it: the layers are reached through that one, which
	// may be id-mapped (Linux 5.19). A detached Tree will do from Linux 6.15 on;
	// before, it must be in the calling thread's mount namespace.
	Base string
	Tree int
	// Context is the SELinux context of all files, whatever label they have below;
	// empty: their own.
	Context string
}

// Mount mounts and returns the descriptor of the detached mount. The caller
// closes it.
func Mount(o Options, f sys.Features) (fd int, err error) {
	span := trace.Begin(trace.Mount, "overlay", o.Upper)
	defer func() { err = span.End(err) }()
	if f.LowerdirAppend {
		fd, err = modern(o)
		if o.Volatile && errors.Is(err, unix.EINVAL) && forgive(o.Work) {
			fd, err = modern(o)
		}
		return fd, err
	}
	fd, err = old(o)
	if o.Volatile && errors.Is(err, unix.EINVAL) && forgive(o.Work) {
		fd, err = old(o)
	}
	return fd, err
}

// forgive removes the mark that a volatile mount leaves in its work directory
// and because of which the kernel refuses to mount it again. Whether the upper
// directory is still good is the caller's to know.
func forgive(work string) bool {
	mark := filepath.Join(work, "work/incompat/volatile")
	if err := unix.Unlink(mark + "/dirty"); err != nil && err != unix.ENOENT {
		return false
	}
	return unix.Rmdir(mark) == nil
}

// layers opens what cannot be named in an option as it is: too long a path, or
// one with characters that mean something there.
type layers struct {
	fds  []int
	base string // with tree, as in Options
	tree int
}

func (l *layers) close() { sys.CloseAll(l.fds...) }

func (l *layers) name(path string, always bool) (string, error) {
	if l.base != "" {
		return l.below(path)
	}
	// 256 bytes, NUL included, is what fsconfig(2) copies.
	if !always && len(path) < 256 && !strings.ContainsAny(path, `\:,`) {
		return path, nil
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", sys.Error("open", path, err)
	}
	l.fds = append(l.fds, fd)
	return sys.FDPath(fd), nil
}

// below opens a directory through the tree.
func (l *layers) below(path string) (string, error) {
	rel, err := filepath.Rel(l.base, path)
	if err != nil {
		return "", err
	}
	// A mount on the way is not part of the tree.
	fd, err := unix.Openat2(l.tree, rel, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return "", sys.Error("openat2", path, err)
	}
	l.fds = append(l.fds, fd)
	return sys.FDPath(fd), nil
}

func modern(o Options) (int, error) {
	l := layers{base: o.Base, tree: o.Tree}
	defer l.close()
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, sys.Error("fsopen", "overlay", err)
	}
	defer sys.CloseAll(fs)
	set := func(key, path string) error {
		name, err := l.name(path, false)
		if err != nil {
			return err
		}
		return sys.Error("mount overlay "+key, path, unix.FsconfigSetString(fs, key, name))
	}
	for _, d := range o.Lower {
		if err := set("lowerdir+", d); err != nil {
			return -1, err
		}
	}
	if o.Upper != "" {
		if err := set("upperdir", o.Upper); err != nil {
			return -1, err
		}
		if err := set("workdir", o.Work); err != nil {
			return -1, err
		}
		if o.Volatile {
			if err := unix.FsconfigSetFlag(fs, "volatile"); err != nil {
				return -1, sys.Error("mount overlay", "volatile", err)
			}
		}
	}
	if o.Context != "" {
		if err := unix.FsconfigSetString(fs, "context", o.Context); err != nil {
			return -1, sys.Error("mount overlay context", o.Context, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, sys.Error("mount overlay", o.Upper, explain(fs, err))
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, o.Attrs)
	return fd, sys.Error("fsmount", "overlay", err)
}

// reason is an error with what the kernel said about it.
type reason struct {
	error
	said string
}

func (r reason) Error() string { return r.error.Error() + " (" + r.said + ")" }
func (r reason) Unwrap() error { return r.error }

// explain adds the kernel's message from the context's log, if there is one.
func explain(fs int, err error) error {
	var b [512]byte
	n, rerr := unix.Read(fs, b[:])
	if rerr != nil || n <= 0 {
		return err
	}
	said := strings.TrimSpace(string(b[:n]))
	if _, after, ok := strings.Cut(said, "overlay: "); ok {
		said = after
	}
	return reason{err, said}
}

// old mounts by mount(2), which needs a place: a directory beside the work
// directory, for a moment.
func old(o Options) (int, error) {
	l := layers{base: o.Base, tree: o.Tree}
	defer l.close()
	var names []string
	for _, d := range o.Lower {
		n, err := l.name(d, true)
		if err != nil {
			return -1, err
		}
		names = append(names, n)
	}
	opts := "lowerdir=" + strings.Join(names, ":")
	place := os.TempDir()
	if o.Upper != "" {
		u, err := l.name(o.Upper, true)
		if err != nil {
			return -1, err
		}
		w, err := l.name(o.Work, true)
		if err != nil {
			return -1, err
		}
		opts += ",upperdir=" + u + ",workdir=" + w
		if o.Volatile {
			opts += ",volatile"
		}
		place = filepath.Dir(o.Work)
	}
	if o.Context != "" {
		opts += `,context="` + o.Context + `"` // its level has commas: mount(8)
	}
	if len(opts) >= os.Getpagesize() {
		return -1, sys.Error("mount overlay", o.Upper, unix.E2BIG)
	}
	dir, err := os.MkdirTemp(place, ".mount-")
	if err != nil {
		return -1, err
	}
	defer os.Remove(dir)
	if err := unix.Mount("overlay", dir, "overlay", 0, opts); err != nil {
		return -1, sys.Error("mount overlay", o.Upper, err)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	uerr := unix.Unmount(dir, unix.MNT_DETACH)
	if err != nil || uerr != nil {
		sys.CloseAll(fd)
		return -1, errors.Join(sys.Error("open_tree", dir, err), sys.Error("umount2", dir, uerr))
	}
	// The place may be in a shared mount, of which the clone is a peer.
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: uint64(o.Attrs), Propagation: unix.MS_PRIVATE}); err != nil {
		sys.CloseAll(fd)
		return -1, sys.Error("mount_setattr", "overlay", err)
	}
	return fd, nil
}
