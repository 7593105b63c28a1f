package rootfs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"

	"lade/internal/engine/container"
	"lade/internal/layer"
	"lade/internal/linux/rootpath"
)

// FillVolumes copies what the image has at the mount points of new, empty
// volumes into them, as Docker does.
func (mt *Mounter) FillVolumes(ctx context.Context, r *container.Record) error {
	var root *os.File
	defer func() {
		if root != nil {
			root.Close()
		}
	}()
	for _, m := range r.Mounts {
		if m.Type != mount.TypeVolume || m.NoCopy {
			continue
		}
		if err := mt.c.Volumes.Mount(ctx, m.Name, r.ID); err != nil {
			return err
		}
		err := mt.fillVolume(ctx, r, m, &root)
		mt.c.Volumes.Unmount(m.Name, r.ID)
		if err != nil {
			return err
		}
	}
	return nil
}

// fillVolume fills one volume, if it is empty; root is the container's, opened
// when it is first needed.
func (mt *Mounter) fillVolume(ctx context.Context, r *container.Record, m container.Mount, root **os.File) error {
	dst, err := openTarget(m)
	if dst == nil || err != nil {
		return err
	}
	defer dst.Close()
	empty, err := isEmpty(dst)
	if err != nil || !empty {
		return err
	}
	if *root == nil {
		if *root, err = mt.MountSnapshot(ctx, r); err != nil {
			return err
		}
	}
	return copyUp(ctx, *root, m, dst)
}

// openTarget opens the directory that a mount shows of a volume; nil if it shows
// none, or what is not there: the start says so.
func openTarget(m container.Mount) (*os.File, error) {
	base, err := os.Open(m.Source)
	if err != nil || m.Subpath == "" {
		return base, err
	}
	defer base.Close()
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(int(base.Fd()), m.Subpath, &how)
	if err != nil {
		return nil, nil
	}
	return os.NewFile(uintptr(fd), m.Subpath), nil
}

func isEmpty(d *os.File) (bool, error) {
	names, err := d.Readdirnames(1)
	if len(names) > 0 {
		return false, nil
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return true, err
}

// copyUp fills a directory of a volume.
func copyUp(ctx context.Context, root *os.File, m container.Mount, dst *os.File) error {
	fd, err := rootpath.Open(int(root.Fd()), m.Destination, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	src := os.NewFile(uintptr(fd), m.Destination)
	defer src.Close()
	return layer.CopyTree(ctx, src, dst)
}
