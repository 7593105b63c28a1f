package vfs

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"lade/internal/layer"
	"lade/internal/linux/quota"
	"lade/internal/snapshot"
)

// Driver is the vfs driver.
type Driver struct {
	*snapshot.Dirs
	snapshot.Plain
	backing string
	quotas  bool // the file system has project quotas
}

var _ snapshot.Snapshotter = (*Driver)(nil)

// New opens the driver's directory root, which is made if it is missing, and
// clears what a crash left there. The caller must Close the driver.
func New(root string, log *slog.Logger) (*Driver, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(root, &fs); err != nil {
		return nil, os.NewSyscallError("statfs", err)
	}
	d := &Driver{backing: snapshot.FileSystem(fs.Type), quotas: quota.Check(root) == nil}
	var err error
	d.Dirs, err = snapshot.OpenDirs(root, d, log)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Name implements snapshot.Snapshotter.
func (d *Driver) Name() string { return "vfs" }

// Status implements snapshot.Snapshotter.
func (d *Driver) Status() [][2]string { return [][2]string{{"Backing Filesystem", d.backing}} }

// MaxDepth implements snapshot.Form; copies could lie on one another without end.
func (d *Driver) MaxDepth() int { return 4096 }

// Blank implements snapshot.Form.
func (d *Driver) Blank(dir string) error {
	if err := os.Mkdir(dir+"/fs", 0o755); err != nil {
		return err
	}
	return os.Chmod(dir+"/fs", 0o755) // whatever the umask is
}

// Create implements snapshot.Form: it copies the parent.
func (d *Driver) Create(ctx context.Context, dir, parent string) (err error) {
	if parent == "" {
		return nil
	}
	src, err := os.Open(parent + "/fs")
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Open(dir + "/fs")
	if err != nil {
		return err
	}
	return errors.Join(layer.CopyTree(ctx, src, dst), dst.Close())
}

// Rebases implements snapshot.Form: a snapshot starts as a copy of its parent.
func (d *Driver) Rebases() bool { return false }

// Temporary implements snapshot.Form.
func (d *Driver) Temporary() []string { return nil }

// Mount implements snapshot.Form.
func (d *Driver) Mount(_ snapshot.Kind, dirs []string) (snapshot.Root, error) {
	return snapshot.Root{Path: dirs[0] + "/fs"}, nil
}

// Bound implements snapshot.Form, by a project quota on the whole tree: what the
// copy of the parent takes counts.
func (d *Driver) Bound(_ context.Context, dir string, bytes int64) error {
	return quota.Bound(dir, bytes)
}

// Discard implements snapshot.Form.
func (d *Driver) Discard(dir string) error {
	if !d.quotas {
		return nil
	}
	return quota.Release(dir)
}
