package aufs

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/quota"
	"lade/internal/linux/sys"
	"lade/internal/snapshot"
	"lade/internal/trace"
)

// Driver is the aufs driver.
type Driver struct {
	*snapshot.Dirs
	snapshot.Plain
	root    string
	backing string
	mounts  snapshot.Mounts
	quotas  bool // the file system has project quotas
}

var _ snapshot.Snapshotter = (*Driver)(nil)

// Probe tells whether the driver works in dir, which is made if it is missing.
// Errors: Unavailable with the reason why not.
func Probe(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return os.NewSyscallError("statfs", err)
	}
	switch uint32(st.Type) {
	case snapshot.AufsMagic, unix.OVERLAYFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.ECRYPTFS_SUPER_MAGIC:
		return errdefs.Unavailablef("%s is on %s, which cannot be a branch of aufs", dir, snapshot.FileSystem(st.Type))
	}
	fd, err := unix.Fsopen("aufs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return errdefs.Unavailablef("the kernel has no aufs, which is not part of Linux (Debian: aufs-dkms): %w", os.NewSyscallError("fsopen", err))
	}
	sys.CloseAll(fd)
	return nil
}

// New opens the driver's directory root, which is made if it is missing, and
// clears what a crash left there. The caller must Close the driver.
//
// Errors: Unavailable with the reason when aufs does not work there.
func New(root string, log *slog.Logger) (*Driver, error) {
	if err := Probe(root); err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return nil, os.NewSyscallError("statfs", err)
	}
	d := &Driver{root: root, backing: snapshot.FileSystem(st.Type), quotas: quota.Check(root) == nil}
	var err error
	d.Dirs, err = snapshot.OpenDirs(root, d, log)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Close implements snapshot.Snapshotter. Containers that run keep their mounts.
func (d *Driver) Close() error {
	return errors.Join(d.mounts.DropAll(d.root, "mnt"), d.Dirs.Close())
}

// Name implements snapshot.Snapshotter.
func (d *Driver) Name() string { return "aufs" }

// Status implements snapshot.Snapshotter, in the words of Docker's info.
func (d *Driver) Status() [][2]string {
	dirs := 0
	for range d.Walk(context.Background()) {
		dirs++
	}
	return [][2]string{
		{"Root Dir", d.root}, {"Backing Filesystem", d.backing}, {"Dirs", strconv.Itoa(dirs)}, {"Dirperm1 Supported", "false"},
	}
}

// MaxDepth implements snapshot.Form.
func (d *Driver) MaxDepth() int { return maxBranches }

// Blank implements snapshot.Form.
func (d *Driver) Blank(dir string) error {
	for _, name := range []string{"/fs", "/mnt"} {
		if err := os.Mkdir(dir+name, 0o755); err != nil {
			return err
		}
	}
	return os.Chmod(dir+"/fs", 0o755) // whatever the umask is
}

// Create implements snapshot.Form. The top directory of a union is that of its
// top branch.
func (d *Driver) Create(_ context.Context, dir, parent string) error {
	if parent == "" {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Lstat(parent+"/fs", &st); err != nil {
		return sys.Error("lstat", parent, err)
	}
	if err := os.Chown(dir+"/fs", int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return sys.Error("chmod", dir, unix.Chmod(dir+"/fs", st.Mode&0o7777))
}

// Rebases implements snapshot.Form: a whiteout is made of what is below.
func (d *Driver) Rebases() bool { return false }

// Temporary implements snapshot.Form.
func (d *Driver) Temporary() []string { return nil }

// Mount implements snapshot.Form.
func (d *Driver) Mount(kind snapshot.Kind, dirs []string) (snapshot.Root, error) {
	if len(dirs) == 1 {
		return snapshot.Root{Path: dirs[0] + "/fs"}, nil
	}
	at := dirs[0] + "/mnt"
	branches := make([]string, len(dirs))
	for i, dir := range dirs {
		branches[i] = dir + "/fs"
	}
	// Memory is never a branch of ours, and the table goes with the mount.
	o, err := union(branches, kind == snapshot.Active, "/dev/shm/aufs.xino")
	if err != nil {
		return snapshot.Root{}, err
	}
	err = d.mounts.Ensure(at, func() error { return o.apply(at) })
	return snapshot.Root{Path: at}, err
}

// apply mounts a union; on error nothing is mounted.
func (o options) apply(at string) error {
	sp := trace.Begin(trace.Mount, "mount", "aufs "+at)
	err := unix.Mount("none", at, "aufs", 0, o.mount)
	if err != nil {
		return sp.End(sys.Error("mount", at, err))
	}
	for _, more := range o.remounts {
		if err := unix.Mount("none", at, "aufs", unix.MS_REMOUNT, more); err != nil {
			return sp.End(errors.Join(sys.Error("remount", at, err), unix.Unmount(at, unix.MNT_DETACH)))
		}
	}
	return sp.End(nil)
}

// Seal implements snapshot.Form: the branch is not written to through this
// mount any more.
func (d *Driver) Seal(_ context.Context, dir string) error { return d.mounts.Drop(dir + "/mnt") }

// Bound implements snapshot.Form, by a project quota on the branch.
func (d *Driver) Bound(_ context.Context, dir string, bytes int64) error {
	return quota.Bound(dir+"/fs", bytes)
}

// Discard implements snapshot.Form.
func (d *Driver) Discard(dir string) error {
	if err := d.mounts.Drop(dir + "/mnt"); err != nil {
		return err
	}
	if _, err := os.Lstat(dir + "/fs"); !d.quotas || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return quota.Release(dir + "/fs")
}
