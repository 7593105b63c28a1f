package zfs

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/ids"
	"lade/internal/linux/atomicfile"
	"lade/internal/linux/sys"
	"lade/internal/snapshot"
	"lade/internal/trace"
)

const (
	// maxDepth is how many layers a snapshot may consist of, as in Docker.
	maxDepth = 128
	// committed is the name of the ZFS snapshot of what is committed.
	committed = "@committed"
	// patience is how long a dataset that is busy is waited for.
	patience = 10 * time.Second
)

// Driver is the zfs driver.
type Driver struct {
	*snapshot.Dirs
	root   string
	top    string // dataset that all of ours lie below
	mounts snapshot.Mounts
}

var _ snapshot.Snapshotter = (*Driver)(nil)

// Probe tells whether the driver works in dir, which is made if it is missing.
// Errors: Unavailable with the reason why not.
func Probe(dir string) error {
	_, err := datasetOf(context.Background(), dir)
	return err
}

// datasetOf returns the dataset that a directory lies in.
func datasetOf(ctx context.Context, dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", os.NewSyscallError("statfs", err)
	}
	if snapshot.FileSystem(st.Type) != "zfs" {
		return "", errdefs.Unavailablef("%s is on %s, and the storage driver zfs needs it to be on zfs, or a dataset in zfs.fsname", dir, snapshot.FileSystem(st.Type))
	}
	return run(ctx, "zfs", "list", "-H", "-o", "name", dir)
}

// New opens the driver's directory root, which is made if it is missing, and
// clears what a crash left there. Datasets are made below fsname, or, if that is
// empty, below the dataset that root lies in. The caller must Close the driver.
//
// Errors: Unavailable with the reason when there is no ZFS, Invalid for a
// dataset that does not exist.
func New(ctx context.Context, root, fsname string, log *slog.Logger) (*Driver, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	if err := atomicfile.RemoveTemporary(root); err != nil {
		return nil, err
	}
	d := &Driver{root: root}
	if err := d.openTop(ctx, fsname); err != nil {
		return nil, err
	}
	var err error
	d.Dirs, err = snapshot.OpenDirs(root, d, log)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// openTop finds or makes the dataset that all of ours lie below. Its name is
// written down before it exists.
func (d *Driver) openTop(ctx context.Context, fsname string) error {
	file := filepath.Join(d.root, "dataset")
	raw, err := os.ReadFile(file)
	switch {
	case err == nil:
		d.top = strings.TrimSpace(string(raw))
	case !errors.Is(err, fs.ErrNotExist):
		return err
	default:
		if fsname == "" {
			if fsname, err = datasetOf(ctx, d.root); err != nil {
				return err
			}
		} else if _, err := run(ctx, "zfs", "list", "-H", "-o", "name", fsname); err != nil {
			if errdefs.KindOf(err) == errdefs.NotFound {
				return errdefs.Invalidf("zfs.fsname: %w", err)
			}
			return err
		}
		d.top = fsname + "/lade-" + ids.New()[:12]
		if err := atomicfile.Write(file, []byte(d.top+"\n"), 0o600); err != nil {
			return err
		}
	}
	_, err = run(ctx, "zfs", "create", "-o", "mountpoint=none", "-o", "canmount=off", d.top)
	if errdefs.KindOf(err) == errdefs.Conflict {
		return nil
	}
	return err
}

// Close implements snapshot.Snapshotter. Containers that run keep their mounts.
func (d *Driver) Close() error {
	return errors.Join(d.mounts.DropAll(d.root, "fs"), d.Dirs.Close())
}

// Name implements snapshot.Snapshotter.
func (d *Driver) Name() string { return "zfs" }

// Status implements snapshot.Snapshotter, in the words of Docker's info.
func (d *Driver) Status() [][2]string {
	pool, _, _ := strings.Cut(d.top, "/")
	parent := filepath.Dir(d.top)
	rows := [][2]string{{"Zpool", pool}, {"Zpool Health", ""}, {"Parent Dataset", parent}}
	ctx := context.Background()
	if health, err := run(ctx, "zpool", "list", "-H", "-o", "health", pool); err == nil {
		rows[1][1] = health
	}
	out, err := run(ctx, "zfs", "get", "-Hp", "-o", "value", "used,available,quota,compression", parent)
	if v := strings.Fields(out); err == nil && len(v) == 4 {
		if v[2] == "0" {
			v[2] = "no"
		}
		rows = append(rows, [2]string{"Space Used By Parent", v[0]}, [2]string{"Space Available", v[1]}, [2]string{"Parent Quota", v[2]}, [2]string{"Compression", v[3]})
	}
	return rows
}

// MaxDepth implements snapshot.Form.
func (d *Driver) MaxDepth() int { return maxDepth }

// Blank implements snapshot.Form.
func (d *Driver) Blank(dir string) error { return os.Mkdir(dir+"/fs", 0o700) }

// Rebases implements snapshot.Form: a snapshot starts with what its parent has.
func (d *Driver) Rebases() bool { return false }

// Temporary implements snapshot.Form.
func (d *Driver) Temporary() []string { return nil }

// dataset returns the dataset of a snapshot's directory.
func (d *Driver) dataset(dir string) string { return d.top + "/" + filepath.Base(dir) }

// Create implements snapshot.Form.
func (d *Driver) Create(ctx context.Context, dir, parent string) error {
	args := []string{"create", "-o", "mountpoint=legacy", d.dataset(dir)}
	if parent != "" {
		args = []string{"clone", "-o", "mountpoint=legacy", d.dataset(parent) + committed, d.dataset(dir)}
	}
	_, err := run(ctx, "zfs", args...)
	if errdefs.KindOf(err) == errdefs.Conflict { // a crash left it
		if _, err = run(ctx, "zfs", "destroy", "-r", d.dataset(dir)); err == nil {
			_, err = run(ctx, "zfs", args...)
		}
	}
	return err
}

// Mount implements snapshot.Form.
func (d *Driver) Mount(kind snapshot.Kind, dirs []string) (snapshot.Root, error) {
	at := dirs[0] + "/fs"
	return snapshot.Root{Path: at}, d.mounts.Ensure(at, func() error {
		var flags uintptr
		if kind == snapshot.Committed {
			flags = unix.MS_RDONLY
		}
		sp := trace.Begin(trace.Mount, "mount", d.dataset(dirs[0])+" "+at)
		return sp.End(sys.Error("mount", at, unix.Mount(d.dataset(dirs[0]), at, "zfs", flags, "")))
	})
}

// Seal implements snapshot.Form. A ZFS snapshot is on disk when it is there.
func (d *Driver) Seal(ctx context.Context, dir string) error {
	if err := d.mounts.Drop(dir + "/fs"); err != nil {
		return err
	}
	name := d.dataset(dir) + committed
	_, err := run(ctx, "zfs", "snapshot", name)
	if errdefs.KindOf(err) == errdefs.Conflict { // of a commit that a crash ended
		if _, err = run(ctx, "zfs", "destroy", name); err == nil {
			_, err = run(ctx, "zfs", "snapshot", name)
		}
	}
	return err
}

// Discard implements snapshot.Form. ZFS does not tell when a dataset is not
// busy any more, so that it is asked again for a while.
func (d *Driver) Discard(dir string) error {
	if _, err := snapshot.ID(dir); err != nil {
		return nil
	}
	if err := d.mounts.Drop(dir + "/fs"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	again := time.NewTicker(patience / 50)
	defer again.Stop()
	for {
		_, err := run(ctx, "zfs", "destroy", "-r", d.dataset(dir))
		switch errdefs.KindOf(err) {
		case errdefs.NotFound:
			return nil
		case errdefs.Conflict:
			select {
			case <-again.C:
				continue
			case <-ctx.Done():
			}
		}
		return err
	}
}

// Measure implements snapshot.Form: it adds up the files in which the snapshot
// differs from its parent.
func (d *Driver) Measure(ctx context.Context, kind snapshot.Kind, dirs []string) (snapshot.Usage, error) {
	root, err := d.Mount(kind, dirs)
	if err != nil {
		return snapshot.Usage{}, err
	}
	var parent snapshot.Root
	if len(dirs) > 1 {
		if parent, err = d.Mount(snapshot.Committed, dirs[1:]); err != nil {
			return snapshot.Usage{}, err
		}
	}
	return snapshot.TreeUsage(ctx, parent.Path, root.Path)
}

// Bound implements snapshot.Form.
func (d *Driver) Bound(ctx context.Context, dir string, bytes int64) error {
	_, err := run(ctx, "zfs", "set", "quota="+strconv.FormatInt(bytes, 10), d.dataset(dir))
	return err
}
