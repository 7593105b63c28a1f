package rootfs

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"lade/internal/engine/container"
	"lade/internal/engine/spec"
	"lade/internal/errdefs"
	"lade/internal/failpoint"
	mounts "lade/internal/linux/mount"
	"lade/internal/linux/sys"
	"lade/internal/secret"
)

// Secrets and configs are files on a tmpfs that is staged for the time that the
// container runs, each bound read-only on its place: their values are never
// written to a disk, not even as swap where the kernel can keep a tmpfs out of
// it. They are in no specification either, so that no runtime keeps them.

// StageSecrets opens the secrets and configs of a container and returns the
// mounts that show them. Errors: DataLoss for a value that cannot be opened,
// Invalid for an owner that its user namespace does not have.
func (mt *Mounter) StageSecrets(r *container.Record) (out []spec.Mount, err error) {
	if len(r.Secrets) == 0 {
		return nil, nil
	}
	tree, err := secretTree(r.Labels.Mount)
	if err != nil {
		return nil, err
	}
	defer sys.CloseAll(tree)
	at := filepath.Join(mt.dir(r.ID), "secrets")
	for i, ref := range r.Secrets {
		name := strconv.Itoa(i)
		if err := mt.putSecret(tree, name, ref, r.UserNS); err != nil {
			return nil, err
		}
		out = append(out, spec.Mount{Type: "bind", Source: filepath.Join(at, name), Destination: ref.Target, ReadOnly: true, Propagation: "rprivate"})
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return nil, sys.Error("mount_setattr", at, err)
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
		return nil, err
	}
	if err := mounts.Detach(at); err != nil { // of a start that was cut off
		return nil, err
	}
	if err := makePoint(tree, at); err != nil {
		return nil, err
	}
	if err := mounts.Attach(tree, at); err != nil {
		return nil, err
	}
	failpoint.Hit("engine.staged")
	return out, nil
}

// secretTree makes a tmpfs, attached nowhere, that is not swapped out where the
// kernel can do that (Linux 6.4). label is the context of its files, or empty.
func secretTree(label string) (int, error) {
	o := mounts.Options{Set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC, Super: []string{"mode=0700"}}
	if label != "" {
		o.Super = append(o.Super, "context="+label)
	}
	swapped := o
	o.Super = append(o.Super, "noswap")
	tree, err := mounts.New("tmpfs", "", &o)
	if errors.Is(err, unix.EINVAL) {
		tree, err = mounts.New("tmpfs", "", &swapped)
	}
	return tree, err
}

// putSecret writes one value as a file of the tree.
func (mt *Mounter) putSecret(tree int, name string, ref secret.Reference, user *container.UserNS) error {
	uid, gid := ref.UID, ref.GID
	if user != nil {
		var ok bool
		if uid, gid, ok = user.IDs.Host(uid, gid); !ok {
			return errdefs.Invalidf("%s %s: the container's user namespace does not have the owner %d:%d", ref.Kind, ref.Name, ref.UID, ref.GID)
		}
	}
	value, err := mt.c.Secrets.Value(ref.Kind, ref.ID)
	if err != nil {
		return err
	}
	defer clear(value)
	fd, err := unix.Openat(tree, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return sys.Error("openat", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.Write(value)
	return errors.Join(err, f.Chown(int(uid), int(gid)), f.Chmod(ref.Mode.Perm()), f.Close())
}
