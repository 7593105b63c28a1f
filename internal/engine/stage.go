package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"

	"lade/internal/digest"
	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/ids"
	"lade/internal/linux/idmap"
	mounts "lade/internal/linux/mount"
	"lade/internal/linux/ns"
	"lade/internal/linux/overlay"
	"lade/internal/linux/sys"
)

// Some mounts of a container have no path of the host that could be bound as it
// is: a directory inside a volume, which whoever writes to the volume could
// replace by a link to anywhere, and the files of an image. They are mounted for
// the time that the container runs below <data root>/mounts/<container>/, where
// every runtime can bind them from. Nothing in there is ever deleted but mount
// points: by rmdir and unlink, which delete no files of anybody.

// stageDir is where a container's are.
func (e *host) stageDir(id string) string { return filepath.Join(e.Root, "mounts", id) }

// staged reports whether a mount is of this kind.
func staged(m container.Mount) bool {
	return m.Type == mount.TypeImage || m.Type == mount.TypeVolume && m.Subpath != ""
}

// stage mounts the i-th mount of a container and returns where. Errors: Invalid
// for a subpath that is not there or leads outside, NotFound for an image that
// was removed.
func (e *host) stage(ctx context.Context, r *container.Record, i int) (string, error) {
	m := r.Mounts[i]
	at := filepath.Join(e.stageDir(r.ID), strconv.Itoa(i))
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
		return "", err
	}
	tree, err := e.openMount(ctx, m, at, r.UserNS)
	if err != nil {
		return "", err
	}
	defer sys.CloseAll(tree)
	if err := makePoint(tree, at); err != nil {
		return "", err
	}
	if err := mounts.Attach(tree, at); err != nil {
		return "", err
	}
	failpoint.Hit("engine.staged")
	return at, nil
}

// makePoint makes an empty directory or file to mount a tree on.
func makePoint(tree int, at string) error {
	var st unix.Stat_t
	if err := unix.Fstat(tree, &st); err != nil {
		return sys.Error("fstat", at, err)
	}
	var err error
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = os.Mkdir(at, 0o700)
	} else {
		err = os.WriteFile(at, nil, 0o600)
	}
	if errors.Is(err, os.ErrExist) {
		err = nil // of a start that was cut off
	}
	return err
}

// unstage takes away what was mounted for a container.
func (e *host) unstage(id string) {
	dir := e.stageDir(id)
	err := mounts.Detach(dir) // of an image that was being opened
	if err != nil {
		e.log.Warn("a mount of a container stays behind", "container", id, "error", err)
		return
	}
	list, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	for _, d := range list {
		p := filepath.Join(dir, d.Name())
		err = errors.Join(err, mounts.Detach(p))
		flags := 0
		if d.IsDir() {
			flags = unix.AT_REMOVEDIR
		}
		if rm := unix.Unlinkat(unix.AT_FDCWD, p, flags); rm != nil && rm != unix.ENOENT {
			err = errors.Join(err, sys.Error("unlinkat", p, rm))
		}
	}
	if err = errors.Join(err, unix.Rmdir(dir)); err != nil {
		e.log.Warn("a mount of a container stays behind", "container", id, "error", err)
	}
}

// recoverMounts brings the mounts of volumes and those staged together with the
// containers that run.
func (e *host) recoverMounts(records []*container.Record) error {
	users := map[string][]string{}
	alive := map[string]bool{}
	for _, r := range records {
		if !r.State.Alive() {
			continue
		}
		alive[r.ID] = true
		for _, m := range r.Mounts {
			if m.Type == mount.TypeVolume {
				users[m.Name] = append(users[m.Name], r.ID)
			}
		}
	}
	dirs, err := os.ReadDir(filepath.Join(e.Root, "mounts"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, d := range dirs {
		if !alive[d.Name()] {
			e.unstage(d.Name())
		}
	}
	return e.volumes.Recover(users)
}

// openMount makes a detached mount of what a mount of a volume or image shows;
// the caller closes it. The place at, beside which something may be mounted for
// a moment, need not exist. user is the container's user namespace, as which an
// image's files are shown, or nil.
func (e *host) openMount(ctx context.Context, m container.Mount, at string, user *container.UserNS) (tree int, err error) {
	if m.Type == mount.TypeImage {
		return e.openImage(ctx, m, at, user)
	}
	who := "open-" + ids.New()
	if err := e.volumes.Mount(ctx, m.Name, who); err != nil {
		return -1, err
	}
	defer e.volumes.Unmount(m.Name, who)
	tree, err = openBelow(e.volumes.Path(m.Name), m.Subpath)
	if err == nil && !m.RW {
		if err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			sys.CloseAll(tree)
			return -1, sys.Error("mount_setattr", m.Name, err)
		}
	}
	return tree, err
}

// openBelow makes a detached mount of a path below dir, which nothing leads out
// of. Errors: Invalid, in Docker's words.
func openBelow(dir, sub string) (tree int, err error) {
	base, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, sys.Error("open", dir, err)
	}
	defer sys.CloseAll(base)
	if sub == "" {
		sub = "."
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(base, sub, &how)
	for again := 0; err == unix.EAGAIN && again < 64; again++ { // a rename on the way (openat2(2))
		fd, err = unix.Openat2(base, sub, &how)
	}
	switch err {
	case nil:
	case unix.EXDEV:
		return -1, errdefs.Invalidf("path concatenation escapes the base directory: %s is outside of %s", filepath.Join(dir, sub), dir)
	default:
		return -1, errdefs.Invalidf("cannot access path %s: %w", filepath.Join(dir, sub), err)
	}
	defer sys.CloseAll(fd)
	return mounts.Clone(fd, &mounts.Options{Recursive: true})
}

// openImage is openMount for an image.
func (e *host) openImage(ctx context.Context, m container.Mount, at string, user *container.UserNS) (tree int, err error) {
	d, err := digest.Parse(m.ImageID)
	if err != nil {
		return -1, err
	}
	img, err := e.Images.Get(d)
	if err != nil {
		return -1, err
	}
	if img.Top() == "" {
		return -1, errdefs.Invalidf("the image %s has no files", m.Name)
	}
	whole, err := e.imageTree(ctx, img.Top(), user)
	if err != nil {
		return -1, err
	}
	defer sys.CloseAll(whole)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(whole, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return -1, sys.Error("mount_setattr", m.Name, err)
	}
	if m.Subpath == "" {
		return unix.FcntlInt(uintptr(whole), unix.F_DUPFD_CLOEXEC, 0)
	}
	// A part can only be cloned of what is attached (before Linux 6.15).
	place := at + ".whole"
	if err := os.MkdirAll(place, 0o700); err != nil {
		return -1, err
	}
	defer func() {
		err = errors.Join(err, mounts.Detach(place), unix.Rmdir(place))
	}()
	if err := mounts.Attach(whole, place); err != nil {
		return -1, err
	}
	return openBelow(place, m.Subpath)
}

// imageTree makes a detached mount of a committed snapshot, shown to a user
// namespace as its own.
func (e *host) imageTree(ctx context.Context, key string, user *container.UserNS) (int, error) {
	root, err := e.Snapshots.Root(ctx, key)
	if err != nil {
		return -1, err
	}
	if user == nil {
		f, err := e.mountRoot(root)
		if err != nil {
			return -1, err
		}
		defer f.Close()
		return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	}
	uns, _, err := e.sup.makeUser(ctx, user.IDs, false)
	if err != nil {
		return -1, err
	}
	defer uns.Close()
	base := root.Path
	if len(root.Lower) > 0 {
		base = commonDir(root.Lower)
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, base, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, sys.Error("open_tree", base, err)
	}
	if err := idmap.Tree(tree, int(uns.Fd()), false); err != nil || len(root.Lower) == 0 {
		if err != nil {
			sys.CloseAll(tree)
		}
		return tree, err
	}
	defer sys.CloseAll(tree)
	o := overlay.Options{Lower: root.Lower, Base: base, Tree: tree}
	fd, err := overlay.Mount(o, e.Kernel)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.15 a layer must be in the mount namespace
		copied, aerr := ns.Attached(tree, func() (err error) {
			fd, err = overlay.Mount(o, e.Kernel)
			return err
		})
		sys.CloseAll(copied)
		err = aerr
	}
	return fd, err
}

// commonDir returns the deepest directory that all paths are below.
func commonDir(paths []string) string {
	base := filepath.Dir(paths[0])
	for _, p := range paths {
		for base != "/" && !strings.HasPrefix(p, base+"/") {
			base = filepath.Dir(base)
		}
	}
	return base
}
