package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"

	"lade/internal/engine/container"
	"lade/internal/engine/rootfs"
	"lade/internal/engine/spec"
	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/linux/device"
	"lade/internal/linux/idmap"
	mounts "lade/internal/linux/mount"
	"lade/internal/linux/ns"
	"lade/internal/linux/rootpath"
	"lade/internal/linux/sys"
	"lade/internal/supervisor/wire"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// What is mounted in a container that runs is prepared here, detached, and moved
// into its mount namespace by a thread that enters that and nothing else:
// open_tree(2), setns(2), move_mount(2). Paths are resolved in the container's
// root, so that its links lead nowhere else. What the kernel refuses waits for
// the next start, and the answer says so.

// applyLive makes mounts and devices of a plan true for a container that runs.
// undo takes back what was done. Errors: Invalid for a source that is not there.
func (e *host) applyLive(ctx context.Context, r, before *container.Record, a *amendment) (undo func(), err error) {
	var done []func()
	undo = func() {
		for _, f := range done {
			f()
		}
	}
	defer func() {
		if err != nil {
			undo()
		}
	}()
	for _, m := range a.add {
		if a.replaces(m.Destination) {
			e.removeOne(r, a, m.Destination)
		}
		live, err := e.mountLive(ctx, r, m, a.foreign)
		if err != nil {
			return undo, err
		}
		if !live {
			a.later(r, "mount "+m.Destination)
			continue
		}
		done = append(done, func() {
			if err := e.unmountLive(r, m.Destination); err != nil {
				e.log.Warn("a mount that was taken back stays", "container", r.ID, "mount", m.Destination, "error", err)
			}
		})
		a.now(r, "mount "+m.Destination)
	}
	failpoint.Hit("engine.amended")
	return undo, e.addDevicesLive(ctx, r, before, a, &done)
}

// mountLive mounts m in a container that runs; live is false if that has to wait
// for a start.
func (e *host) mountLive(ctx context.Context, r *container.Record, m container.Mount, foreign bool) (live bool, err error) {
	if m.Type == mount.TypeBind {
		if err := e.bindSource(r, m); err != nil {
			return false, err
		}
	}
	if foreign || m.Propagation != "" && m.Propagation != mount.PropagationRPrivate && m.Propagation != mount.PropagationPrivate {
		return false, nil
	}
	tree, err := e.liveTree(ctx, r, m)
	if err != nil {
		return false, err
	}
	defer sys.CloseAll(tree)
	err = e.inside(r, func(root int) error { return attachInside(root, tree, m.Destination, r.UserNS) })
	if err != nil {
		e.log.Info("a mount waits for the container's next start", "container", r.ID, "mount", m.Destination, "error", err)
		return false, nil
	}
	return true, nil
}

// replaces reports whether a plan removes a mount and adds one in its place.
func (a *amendment) replaces(at string) bool {
	is := func(removed string) bool { return path.Clean(removed) == at }
	return slices.ContainsFunc(a.MountsRemove, is) && slices.ContainsFunc(a.add, func(m container.Mount) bool { return m.Destination == at })
}

// removeLive takes away what a plan removes and does not replace.
func (e *host) removeLive(r *container.Record, a *amendment) {
	for _, at := range a.MountsRemove {
		if at = path.Clean(at); !a.replaces(at) {
			e.removeOne(r, a, at)
		}
	}
}

func (e *host) removeOne(r *container.Record, a *amendment, at string) {
	if a.foreign || e.unmountLive(r, at) != nil {
		a.later(r, "mount "+at+" removed")
		return
	}
	a.now(r, "mount "+at+" removed")
}

// liveTree makes a detached mount of what m shows. The volume of one is mounted
// for the container.
func (e *host) liveTree(ctx context.Context, r *container.Record, m container.Mount) (tree int, err error) {
	defer func() {
		if err != nil && tree >= 0 {
			sys.CloseAll(tree)
			tree = -1
		}
	}()
	switch m.Type {
	case mount.TypeTmpfs:
		o := mounts.Parse(append([]string{"noexec", "nosuid", "nodev"}, m.Options...))
		if !m.RW {
			o.Set |= unix.MOUNT_ATTR_RDONLY
		}
		return mounts.New("tmpfs", "", o)
	case mount.TypeBind:
		from, err := unix.Open(m.Source, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, sys.Error("open", m.Source, err)
		}
		defer sys.CloseAll(from)
		o := mounts.Parse(m.Options)
		if slices.ContainsFunc(m.Options, isIDMap) {
			return -1, errdefs.Invalidf("the option idmap of a mount needs a start of the container")
		}
		o.Recursive = true
		if tree, err = mounts.Clone(from, o); err != nil {
			return -1, err
		}
	case mount.TypeVolume:
		if err := e.volumes.Mount(ctx, m.Name, r.ID); err != nil {
			return -1, err
		}
		if tree, err = rootfs.OpenBelow(e.volumes.Path(m.Name), m.Subpath); err != nil {
			return -1, err
		}
		if r.UserNS != nil { // its files are stored with the ids of inside
			user, err := ns.Open(r.Pid, unix.CLONE_NEWUSER)
			if err != nil {
				return tree, err
			}
			defer sys.CloseAll(user)
			if err := idmap.Tree(tree, user, false); err != nil {
				return tree, err
			}
		}
	default:
		return e.OpenMount(ctx, r, m)
	}
	if !m.RW {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		err = sys.Error("mount_setattr", m.Destination, unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr))
	}
	return tree, err
}

// inside calls f on a thread in a running container's mount namespace. Errors:
// Conflict if it has ended.
func (e *host) inside(r *container.Record, f func(root int) error) error {
	mnt, err := ns.Open(r.Pid, unix.CLONE_NEWNS)
	if errors.Is(err, fs.ErrNotExist) {
		return errdefs.Conflictf("container %s is not running", r.ID)
	}
	if err != nil {
		return err
	}
	defer sys.CloseAll(mnt)
	root, _, err := e.LiveRoot(r) // and that the number was not another process's
	if err != nil {
		return err
	}
	if root == nil {
		return errdefs.Conflictf("container %s is not running", r.ID)
	}
	defer root.Close()
	return ns.Within(mnt, func() error { return f(int(root.Fd())) })
}

// attachInside mounts a tree at a path below root, which is made if it is not
// there.
func attachInside(root, tree int, at string, user *container.UserNS) error {
	var st unix.Stat_t
	if err := unix.Fstat(tree, &st); err != nil {
		return sys.Error("fstat", at, err)
	}
	uid, gid := uint32(0), uint32(0)
	if user != nil {
		uid, gid, _ = user.IDs.Host(0, 0)
	}
	make := func() error { return rootpath.MakeAll(root, at, st.Mode&unix.S_IFMT != unix.S_IFDIR) }
	if err := idmap.As(uid, gid, make); err != nil {
		return err
	}
	to, err := rootpath.Open(root, at, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer sys.CloseAll(to)
	err = unix.MoveMount(tree, "", to, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	return sys.Error("move_mount", at, err)
}

// unmountLive takes away what is mounted at a path of a running container.
func (e *host) unmountLive(r *container.Record, at string) error {
	return e.inside(r, func(root int) error {
		parent, err := rootpath.Open(root, path.Dir(at), unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer sys.CloseAll(parent)
		if err := unix.Fchdir(parent); err != nil {
			return sys.Error("fchdir", path.Dir(at), err)
		}
		return sys.Error("umount2", at, unix.Unmount(path.Base(at), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW))
	})
}

// addDevicesLive gives a container that runs the devices of a plan: the control
// group lets it, and the host's node is bound on a file.
func (e *host) addDevicesLive(ctx context.Context, r, before *container.Record, a *amendment, done *[]func()) error {
	if len(a.DevicesAdd) == 0 {
		return nil
	}
	waits := a.foreign
	if !waits {
		rules := func(hc *apicontainer.HostConfig) error {
			list, err := spec.DeviceRules(hc, device.Find)
			if err != nil {
				return err
			}
			return e.sup.update(ctx, &wire.Update{ID: r.ID, Resources: &specs.LinuxResources{Devices: list}})
		}
		if err := rules(r.HostConfig); err != nil {
			return err
		}
		*done = append(*done, func() {
			if err := rules(before.HostConfig); err != nil {
				e.log.Warn("the rules for devices stay wider", "container", r.ID, "error", err)
			}
		})
	}
	for _, d := range a.DevicesAdd {
		at := path.Clean(d.PathInContainer)
		if d.PathInContainer == "" {
			at = path.Clean(d.PathOnHost)
		}
		m := container.Mount{MountPoint: apicontainer.MountPoint{Type: mount.TypeBind, Source: d.PathOnHost, Destination: at, RW: true}}
		found, err := device.Find(d.PathOnHost)
		if err != nil {
			return err
		}
		live := len(found) == 1 // of a directory each node would have to be made
		if live {
			if live, err = e.mountLive(ctx, r, m, waits); err != nil {
				return err
			}
		}
		if !live {
			a.later(r, "device "+at)
			continue
		}
		a.now(r, "device "+at)
	}
	return nil
}

// OwnFiles opens a container's file system without what is mounted in it. ids,
// unless empty, is the map by which the owners of its files are seen. Of one that
// runs it is the mount that its processes have: the kernel leaves undefined what
// a second overlay on the same directories shows (overlayfs.rst, "Sharing and
// copying layers").
func (e *host) OwnFiles(ctx context.Context, r *container.Record) (root *os.File, ids idmap.Map, err error) {
	if other, err := e.runtime(r); err == nil && other == nil && r.State.Alive() {
		root, ids, err := e.liveFiles(r)
		if errdefs.KindOf(err) != errdefs.Conflict {
			return root, ids, err
		}
	}
	root, err = e.MountSnapshot(ctx, r)
	return root, idmap.Map{}, err
}

// liveFiles clones the mount of a running container's root, alone. Errors:
// Conflict if it has ended.
func (e *host) liveFiles(r *container.Record) (root *os.File, ids idmap.Map, err error) {
	if r.UserNS != nil {
		if ids, err = idmap.Of(r.Pid); errors.Is(err, fs.ErrNotExist) {
			return nil, ids, errdefs.Conflictf("container %s is not running", r.ID)
		}
	}
	if err != nil {
		return nil, ids, err
	}
	err = e.inside(r, func(top int) error {
		fd, err := unix.OpenTree(top, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
		if err != nil {
			return sys.Error("open_tree", "/", err)
		}
		root = os.NewFile(uintptr(fd), "/")
		return nil
	})
	return root, ids, err
}
