package btrfs

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/btrfs"
	"lade/internal/linux/sys"
	"lade/internal/snapshot"
)

// maxDepth is how many layers a snapshot may consist of, as in Docker. Btrfs
// itself does not care.
const maxDepth = 128

// Driver is the btrfs driver.
type Driver struct {
	*snapshot.Dirs
	snapshot.Plain
	log *slog.Logger

	enable  sync.Mutex // held while accounting is turned on
	counted bool       // accounting is on; guarded by enable
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
	if st.Type != unix.BTRFS_SUPER_MAGIC {
		return errdefs.Unavailablef("%s is on %s, and the storage driver btrfs needs it to be on btrfs", dir, snapshot.FileSystem(st.Type))
	}
	return nil
}

// New opens the driver's directory root, which is made if it is missing, and
// clears what a crash left there. The caller must Close the driver.
//
// Errors: Unavailable with the reason when root is not on btrfs.
func New(root string, log *slog.Logger) (*Driver, error) {
	if err := Probe(root); err != nil {
		return nil, err
	}
	d := &Driver{log: log}
	var err error
	d.Dirs, err = snapshot.OpenDirs(root, d, log)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Name implements snapshot.Snapshotter.
func (d *Driver) Name() string { return "btrfs" }

// Status implements snapshot.Snapshotter.
func (d *Driver) Status() [][2]string { return [][2]string{{"Btrfs", ""}} }

// MaxDepth implements snapshot.Form.
func (d *Driver) MaxDepth() int { return maxDepth }

// Blank implements snapshot.Form: only with its parent the subvolume is known.
func (d *Driver) Blank(string) error { return nil }

// Rebases implements snapshot.Form: a snapshot starts with what its parent has.
func (d *Driver) Rebases() bool { return false }

// Temporary implements snapshot.Form.
func (d *Driver) Temporary() []string { return nil }

// Create implements snapshot.Form.
func (d *Driver) Create(_ context.Context, dir, parent string) error {
	at, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer at.Close()
	if parent != "" {
		source, err := os.Open(parent + "/fs")
		if err != nil {
			return err
		}
		defer source.Close()
		return btrfs.Snapshot(source, at, "fs")
	}
	if err := btrfs.Create(at, "fs"); err != nil {
		return err
	}
	return os.Chmod(dir+"/fs", 0o755) // whatever the umask is
}

// Mount implements snapshot.Form.
func (d *Driver) Mount(_ snapshot.Kind, dirs []string) (snapshot.Root, error) {
	return snapshot.Root{Path: dirs[0] + "/fs"}, nil
}

// Measure implements snapshot.Form: it counts what was written since the
// subvolume was made. Where a file lies is known only when it was written back,
// so that this is done first.
func (d *Driver) Measure(ctx context.Context, _ snapshot.Kind, dirs []string) (snapshot.Usage, error) {
	dir := dirs[0]
	fd, err := unix.Open(dir+"/fs", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return snapshot.Usage{}, sys.Error("open", dir+"/fs", err)
	}
	defer sys.CloseAll(fd)
	if err := unix.Syncfs(fd); err != nil {
		return snapshot.Usage{}, sys.Error("syncfs", dir, err)
	}
	info, err := btrfs.Describe(fd)
	if err != nil {
		return snapshot.Usage{}, err
	}
	u, err := btrfs.Changed(ctx, fd, info.Created)
	return snapshot.Usage(u), err
}

// Bound implements snapshot.Form.
func (d *Driver) Bound(_ context.Context, dir string, bytes int64) error {
	f, err := os.Open(dir + "/fs")
	if err != nil {
		return err
	}
	defer f.Close()
	fd := int(f.Fd())
	if err := d.count(fd); err != nil {
		return errdefs.Unavailablef("btrfs does not account for subvolumes here: %w", err)
	}
	info, err := btrfs.Describe(fd)
	if err != nil {
		return err
	}
	return btrfs.Limit(fd, info.ID, bytes)
}

// count turns accounting on, once.
func (d *Driver) count(fd int) error {
	d.enable.Lock()
	defer d.enable.Unlock()
	if d.counted {
		return nil
	}
	err := btrfs.EnableQuota(fd)
	d.counted = err == nil
	return err
}

// Discard implements snapshot.Form: it deletes the subvolume, unless that has
// others in it. Those are left to be deleted like directories, which rmdir(2)
// can since Linux 4.18, and which takes longer.
func (d *Driver) Discard(dir string) error {
	at, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer at.Close()
	id, found, err := subvolume(dir + "/fs")
	if err != nil || !found {
		return err
	}
	if err := btrfs.Destroy(at, "fs"); err != nil {
		d.log.Debug("delete a subvolume at once", "dir", dir, "error", err)
		return nil
	}
	// Most often there is none, or the file system must clean up first and does
	// it then (Linux 6.9); an account of nothing harms nobody.
	if err := btrfs.Forget(int(at.Fd()), id); err != nil {
		d.log.Debug("remove the account of a subvolume", "id", id, "error", err)
	}
	return nil
}

// subvolume returns the number of a subvolume; found is false if path is none.
func subvolume(path string) (id uint64, found bool, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, sys.Error("open", path, err)
	}
	defer sys.CloseAll(fd)
	if found, err = btrfs.Is(fd); err != nil || !found {
		return 0, false, err
	}
	info, err := btrfs.Describe(fd)
	return info.ID, err == nil, err
}
