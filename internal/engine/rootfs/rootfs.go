package rootfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"

	"lade/internal/engine/container"
	"lade/internal/ids"
	"lade/internal/linux/idmap"
	"lade/internal/linux/ns"
	"lade/internal/linux/overlay"
	"lade/internal/linux/rootpath"
	"lade/internal/linux/sys"
	"lade/internal/snapshot"
	"lade/internal/trace"
)

// Rootfs opens a container's root directory: of a running one as its
// processes see it, of another its snapshot with its volumes. The caller
// closes it. Names must be resolved inside it only (openat2, RESOLVE_IN_ROOT).
// ids, unless empty, is the map by which the owners of its files are seen.
func (mt *Mounter) Rootfs(ctx context.Context, r *container.Record) (root *os.File, ids idmap.Map, err error) {
	if r.State.Alive() && r.Pid > 0 {
		if root, ids, err = mt.LiveRoot(r); root != nil || err != nil {
			return root, ids, err
		}
	}
	root, err = mt.stillRoot(ctx, r)
	return root, idmap.Map{}, err
}

// LiveRoot opens the root of a container's first process; nil if it has ended.
func (mt *Mounter) LiveRoot(r *container.Record) (_ *os.File, ids idmap.Map, err error) {
	name := filepath.Join("/proc", strconv.Itoa(r.Pid), "root")
	fd, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil, ids, nil
	}
	if err != nil {
		return nil, ids, sys.Error("open", name, err)
	}
	if r.UserNS != nil {
		ids, err = idmap.Of(r.Pid)
	}
	// Had it ended meanwhile, the number could be another process's.
	if err != nil || mt.c.Pid(r.ID) != r.Pid {
		sys.CloseAll(fd)
		return nil, idmap.Map{}, nil
	}
	return os.NewFile(uintptr(fd), name), ids, nil
}

// stillRoot mounts a container's snapshot with its volumes.
func (mt *Mounter) stillRoot(ctx context.Context, r *container.Record) (*os.File, error) {
	f, err := mt.MountSnapshot(ctx, r)
	if err != nil {
		return nil, err
	}
	trees, err := mt.openMounts(ctx, r)
	defer func() {
		for _, t := range trees {
			sys.CloseAll(t.fd)
		}
	}()
	graftAll := func() error {
		for _, t := range trees {
			if err := graft(f, t); err != nil {
				return err
			}
		}
		return nil
	}
	if err == nil {
		err = graftAll()
	}
	if errors.Is(err, unix.EINVAL) {
		// Before Linux 6.15 nothing can be mounted on what is detached.
		var fd int
		if fd, err = ns.Attached(int(f.Fd()), graftAll); err == nil {
			return os.NewFile(uintptr(fd), f.Name()), f.Close()
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// tree is a detached mount that belongs at a path of a container.
type tree struct {
	fd          int
	destination string
}

// openMounts makes detached mounts of what a container that does not run would
// have mounted; the caller closes them, also on an error.
func (mt *Mounter) openMounts(ctx context.Context, r *container.Record) (out []tree, err error) {
	for _, m := range r.Mounts {
		if m.Type == mount.TypeTmpfs {
			continue
		}
		fd, err := mt.openSource(ctx, m)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it would be made at the start
		}
		if err != nil {
			return out, err
		}
		out = append(out, tree{fd, m.Destination})
	}
	return out, nil
}

// openSource makes a detached mount of a mount's source.
func (mt *Mounter) openSource(ctx context.Context, m container.Mount) (int, error) {
	if m.Type == mount.TypeBind {
		from, err := unix.OpenTree(unix.AT_FDCWD, m.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		return from, sys.Error("open_tree", m.Source, err)
	}
	at := mt.dir("open-" + ids.New())
	if m.Type == mount.TypeImage {
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			return -1, err
		}
	}
	return mt.open(ctx, m, at, nil)
}

// MountSnapshot returns a detached mount of a container's snapshot alone.
func (mt *Mounter) MountSnapshot(ctx context.Context, r *container.Record) (*os.File, error) {
	return mt.MountKey(ctx, r.ID)
}

// MountKey returns a detached mount of the snapshot of that key.
func (mt *Mounter) MountKey(ctx context.Context, key string) (*os.File, error) {
	root, err := mt.c.Snapshots.Root(ctx, key)
	if err != nil {
		return nil, err
	}
	return mt.mountRoot(root)
}

// mountRoot returns a detached mount of a snapshot.
func (mt *Mounter) mountRoot(root snapshot.Root) (*os.File, error) {
	if len(root.Lower) == 0 {
		fd, err := unix.OpenTree(unix.AT_FDCWD, root.Path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return nil, sys.Error("open_tree", root.Path, err)
		}
		return os.NewFile(uintptr(fd), root.Path), nil
	}
	fd, err := overlay.Mount(overlay.Options{Lower: root.Lower, Upper: root.Upper, Work: root.Work}, mt.c.Kernel)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), root.Upper), nil
}

// MountPoints makes what every container has mounts on, where the image has
// nothing there. Links of the image are followed inside it.
func (mt *Mounter) MountPoints(root snapshot.Root) error {
	f, err := mt.mountRoot(root)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, p := range []struct {
		path string
		file bool
	}{
		{"/.dockerenv", true}, {"/dev", false}, {"/proc", false}, {"/sys", false},
		{"/etc/hosts", true}, {"/etc/hostname", true}, {"/etc/resolv.conf", true},
	} {
		if err := rootpath.MakeAll(int(f.Fd()), p.path, p.file); err != nil {
			return err
		}
	}
	err = unix.Symlinkat("/proc/mounts", int(f.Fd()), "etc/mtab")
	if err != nil && err != unix.EEXIST && err != unix.ENOENT && err != unix.ENOTDIR {
		return sys.Error("symlinkat", "/etc/mtab", err)
	}
	return nil
}

// graft mounts the tree of a bind, volume or image inside a root. Errors: EINVAL
// if the kernel mounts nothing on what is detached.
func graft(root *os.File, t tree) error {
	to, err := rootpath.Open(int(root.Fd()), t.destination, unix.O_PATH, 0)
	if errors.Is(err, fs.ErrNotExist) {
		var st unix.Stat_t
		if err := unix.Fstat(t.fd, &st); err != nil {
			return sys.Error("fstat", t.destination, err)
		}
		if err := rootpath.MakeAll(int(root.Fd()), t.destination, st.Mode&unix.S_IFMT != unix.S_IFDIR); err != nil {
			return err
		}
		to, err = rootpath.Open(int(root.Fd()), t.destination, unix.O_PATH, 0)
	}
	if err != nil {
		return err
	}
	defer sys.CloseAll(to)
	span := trace.Begin(trace.Mount, "move_mount", t.destination)
	err = unix.MoveMount(t.fd, "", to, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	return span.End(sys.Error("move_mount", t.destination, err))
}
