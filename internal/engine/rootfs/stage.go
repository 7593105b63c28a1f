package rootfs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/ids"
	mounts "lade/internal/linux/mount"
	"lade/internal/linux/sys"
)

// Some mounts of a container have no path of the host that could be bound as it
// is: a directory inside a volume, which whoever writes to the volume could
// replace by a link to anywhere, and the files of an image. They are mounted for
// the time that the container runs below <data root>/mounts/<container>/, where
// every runtime can bind them from. Nothing in there is ever deleted but mount
// points: by rmdir and unlink, which delete no files of anybody.

// dir is where a container's are.
func (mt *Mounter) dir(id string) string { return filepath.Join(mt.c.Dir, id) }

// staged reports whether a mount is of this kind.
func staged(m container.Mount) bool {
	return m.Type == mount.TypeImage || m.Type == mount.TypeVolume && m.Subpath != ""
}

// Stage mounts the i-th mount of a container and returns where. Errors: Invalid
// for a subpath that is not there or leads outside, NotFound for an image that
// was removed.
func (mt *Mounter) Stage(ctx context.Context, r *container.Record, i int) (string, error) {
	m := r.Mounts[i]
	at := filepath.Join(mt.dir(r.ID), strconv.Itoa(i))
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
		return "", err
	}
	tree, err := mt.open(ctx, m, at, r.UserNS)
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
func (mt *Mounter) unstage(id string) {
	dir := mt.dir(id)
	err := mounts.Detach(dir) // of an image that was being opened
	if err != nil {
		mt.c.Logger.Warn("a mount of a container stays behind", "container", id, "error", err)
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
		mt.c.Logger.Warn("a mount of a container stays behind", "container", id, "error", err)
	}
}

// RecoverMounts brings the mounts of volumes and those staged together with the
// containers that run.
func (mt *Mounter) RecoverMounts(records []*container.Record) error {
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
	dirs, err := os.ReadDir(mt.c.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, d := range dirs {
		if !alive[d.Name()] {
			mt.unstage(d.Name())
		}
	}
	return mt.c.Volumes.Recover(users)
}

// ReleaseMounts takes away what was mounted for a container.
func (mt *Mounter) ReleaseMounts(r *container.Record) {
	if len(r.Secrets) > 0 || slices.ContainsFunc(r.Mounts, staged) {
		mt.unstage(r.ID)
	}
	for _, m := range r.Mounts {
		if m.Type == mount.TypeVolume {
			mt.c.Volumes.Unmount(m.Name, r.ID)
		}
	}
}

// OpenMount makes a detached mount of what a mount of a volume or image shows to
// a container that runs; the caller closes it.
func (mt *Mounter) OpenMount(ctx context.Context, r *container.Record, m container.Mount) (tree int, err error) {
	return mt.open(ctx, m, mt.dir("live-"+r.ID), r.UserNS)
}

// open makes a detached mount of what a mount of a volume or image shows;
// the caller closes it. The place at, beside which something may be mounted for
// a moment, need not exist. user is the container's user namespace, as which an
// image's files are shown, or nil.
func (mt *Mounter) open(ctx context.Context, m container.Mount, at string, user *container.UserNS) (tree int, err error) {
	if m.Type == mount.TypeImage {
		return mt.openImage(ctx, m, at, user)
	}
	who := "open-" + ids.New()
	if err := mt.c.Volumes.Mount(ctx, m.Name, who); err != nil {
		return -1, err
	}
	defer mt.c.Volumes.Unmount(m.Name, who)
	tree, err = OpenBelow(mt.c.Volumes.Path(m.Name), m.Subpath)
	if err == nil && !m.RW {
		if err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			sys.CloseAll(tree)
			return -1, sys.Error("mount_setattr", m.Name, err)
		}
	}
	return tree, err
}

// OpenBelow makes a detached mount of a path below dir, which nothing leads out
// of. Errors: Invalid, in Docker's words.
func OpenBelow(dir, sub string) (tree int, err error) {
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
