package rootfs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/digest"
	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/linux/idmap"
	mounts "lade/internal/linux/mount"
	"lade/internal/linux/ns"
	"lade/internal/linux/overlay"
	"lade/internal/linux/sys"
)

// openImage is open for an image.
func (mt *Mounter) openImage(ctx context.Context, m container.Mount, at string, user *container.UserNS) (tree int, err error) {
	d, err := digest.Parse(m.ImageID)
	if err != nil {
		return -1, err
	}
	img, err := mt.c.Images.Get(d)
	if err != nil {
		return -1, err
	}
	if img.Top() == "" {
		return -1, errdefs.Invalidf("the image %s has no files", m.Name)
	}
	whole, err := mt.imageTree(ctx, img.Top(), user)
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
	return OpenBelow(place, m.Subpath)
}

// imageTree makes a detached mount of a committed snapshot, shown to a user
// namespace as its own.
func (mt *Mounter) imageTree(ctx context.Context, key string, user *container.UserNS) (int, error) {
	root, err := mt.c.Snapshots.Root(ctx, key)
	if err != nil {
		return -1, err
	}
	if user == nil {
		f, err := mt.mountRoot(root)
		if err != nil {
			return -1, err
		}
		defer f.Close()
		return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	}
	uns, err := mt.c.MakeUser(ctx, user.IDs)
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
	fd, err := overlay.Mount(o, mt.c.Kernel)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.15 a layer must be in the mount namespace
		copied, aerr := ns.Attached(tree, func() (err error) {
			fd, err = overlay.Mount(o, mt.c.Kernel)
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
