package devicemapper

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/atomicfile"
	dm "lade/internal/linux/devicemapper"
	"lade/internal/linux/sys"
	"lade/internal/snapshot"
)

// maxDepth is how many layers a snapshot may consist of, as in Docker. The pool
// itself does not care.
const maxDepth = 128

// Driver is the devicemapper driver.
type Driver struct {
	*snapshot.Dirs
	log     *slog.Logger
	root    string
	options Options
	base    base
	pool    *pool
	mounts  snapshot.Mounts
}

var _ snapshot.Snapshotter = (*Driver)(nil)

// Probe tells whether the driver is one to choose for dir, which is made if it
// is missing: the kernel has what it takes, and dir is a place for the files of a
// pool. On an overlay the engine is in a container, most often, which sees no
// nodes of new devices. Errors: Unavailable with the reason why not.
func Probe(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return sys.Error("statfs", dir, err)
	}
	switch uint32(st.Type) {
	case unix.OVERLAYFS_SUPER_MAGIC, unix.NFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC:
		return errdefs.Unavailablef("%s is on %s, where no thin pool is made unless the driver is named", dir, snapshot.FileSystem(st.Type))
	}
	c, err := dm.Open()
	if err != nil {
		return err
	}
	defer c.Close()
	if !c.Has("thin-pool") {
		return errdefs.Unavailablef("the kernel has no thin provisioning (module dm_thin_pool)")
	}
	return nil
}

// New opens the driver's directory root, which is made if it is missing, and
// the pool, which is initialised if it is new, and clears what a crash left. The
// caller must Close the driver.
//
// Errors: Unavailable with the reason when the kernel lacks what it takes.
func New(ctx context.Context, root string, o Options, log *slog.Logger) (_ *Driver, err error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	if err := atomicfile.RemoveTemporary(root); err != nil {
		return nil, err
	}
	d := &Driver{log: log, root: root, options: o}
	made, err := d.readBase()
	if err != nil {
		return nil, err
	}
	if d.pool, err = openPool(root, d.options); err != nil {
		return nil, err
	}
	if !made {
		err = d.writeBase(ctx)
	}
	if err == nil {
		d.Dirs, err = snapshot.OpenDirs(root, d, log)
	}
	if err != nil {
		return nil, errors.Join(err, d.pool.deactivateAll(ctx), d.pool.Close())
	}
	return d, nil
}

// Close implements snapshot.Snapshotter. Containers that run keep their mounts,
// and so their devices and the pool stay active.
func (d *Driver) Close() error {
	err := errors.Join(d.mounts.DropAll(d.root, "fs"), d.Dirs.Close())
	return errors.Join(err, d.pool.deactivateAll(context.Background()), d.pool.Close())
}

// Name implements snapshot.Snapshotter.
func (d *Driver) Name() string { return "devicemapper" }

// Status implements snapshot.Snapshotter, in the words of Docker's info.
func (d *Driver) Status() [][2]string {
	rows := [][2]string{
		{"Pool Name", d.pool.prefix + "pool"},
		{"Pool Blocksize", units.HumanSize(float64(d.options.BlockSize))},
		{"Base Device Size", units.HumanSize(float64(d.base.Size))},
		{"Backing Filesystem", d.base.FS},
		{"Udev Sync Supported", "false"},
	}
	if !d.pool.own {
		rows[0][1] = filepath.Base(d.options.ThinPool)
	} else {
		rows = append(rows, [2]string{"Data loop file", d.pool.loops[1]}, [2]string{"Metadata loop file", d.pool.loops[0]})
	}
	if s, err := d.pool.space(); err == nil {
		const metaBlock = 4096 // THIN_METADATA_BLOCK_SIZE
		for _, r := range []struct {
			name              string
			used, total, size int64
		}{{"Data", s.dataUsed, s.data, d.options.BlockSize}, {"Metadata", s.metaUsed, s.meta, metaBlock}} {
			human := func(blocks int64) string { return units.HumanSize(float64(blocks * r.size)) }
			rows = append(rows, [2]string{r.name + " Space Used", human(r.used)},
				[2]string{r.name + " Space Total", human(r.total)}, [2]string{r.name + " Space Available", human(r.total - r.used)})
		}
		rows = append(rows, [2]string{"Thin Pool Minimum Free Space", units.HumanSize(float64(s.data * d.options.BlockSize * int64(d.options.MinFree) / 100))})
	}
	return append(rows, [2]string{"Deferred Removal Enabled", "true"}, [2]string{"Deferred Deletion Enabled", "false"})
}

// MaxDepth implements snapshot.Form.
func (d *Driver) MaxDepth() int { return maxDepth }

// Blank implements snapshot.Form.
func (d *Driver) Blank(dir string) error { return os.Mkdir(dir+"/fs", 0o700) }

// Rebases implements snapshot.Form: a snapshot starts with what its parent has.
func (d *Driver) Rebases() bool { return false }

// Temporary implements snapshot.Form.
func (d *Driver) Temporary() []string { return nil }

// idOf returns the number of the device of a snapshot's directory; found is
// false for a path that is none, or has no device.
func idOf(dir string) (id uint64, found bool) {
	id, err := snapshot.ID(dir)
	return id, err == nil && id > 0 && id <= maxID
}

// Create implements snapshot.Form.
func (d *Driver) Create(_ context.Context, dir, parent string) error {
	s, err := d.pool.space()
	if err != nil {
		return err
	}
	if (s.data-s.dataUsed)*100 < s.data*int64(d.options.MinFree) || (s.meta-s.metaUsed)*100 < s.meta*int64(d.options.MinFree) {
		return errdefs.Exhaustedf("devicemapper: less than %d%% of the thin pool are free (%d of %d data blocks, %d of %d metadata blocks are used); use dm.min_free_space option to change behavior",
			d.options.MinFree, s.dataUsed, s.data, s.metaUsed, s.meta)
	}
	id, ok := idOf(dir)
	if !ok {
		return errdefs.Exhaustedf("the thin pool has no more numbers for devices")
	}
	var origin uint64 // the base
	if parent != "" {
		origin, _ = idOf(parent)
	}
	return d.pool.snapshot(id, origin)
}

// Mount implements snapshot.Form.
func (d *Driver) Mount(kind snapshot.Kind, dirs []string) (snapshot.Root, error) {
	at := dirs[0] + "/fs"
	return snapshot.Root{Path: at}, d.mounts.Ensure(at, func() error {
		id, _ := idOf(dirs[0])
		size, err := d.size(dirs[0])
		if err != nil {
			return err
		}
		dev, err := d.pool.activate(id, size)
		if err != nil {
			return err
		}
		if err := d.mount(dev, at, kind == snapshot.Committed); err != nil {
			return errors.Join(err, d.pool.Remove(d.pool.name(id)))
		}
		return nil
	})
}

// size returns the bytes of a snapshot's device.
func (d *Driver) size(dir string) (int64, error) {
	raw, err := os.ReadFile(dir + "/size")
	if errors.Is(err, fs.ErrNotExist) {
		return d.base.Size, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
	if err != nil || n < d.base.Size {
		return 0, errdefs.DataLossf("%s/size holds %q", dir, raw)
	}
	return n, nil
}

// Seal implements snapshot.Form: the file system is unmounted and the device
// written out.
func (d *Driver) Seal(ctx context.Context, dir string) error {
	id, _ := idOf(dir)
	dev, active, err := d.pool.Find(d.pool.name(id))
	if err != nil || !active {
		return err
	}
	if err := d.mounts.Release(dir + "/fs"); err != nil {
		return err
	}
	if err := flush(dev); err != nil {
		return err
	}
	return d.pool.deactivate(ctx, id)
}

// Discard implements snapshot.Form.
func (d *Driver) Discard(dir string) error {
	id, ok := idOf(dir)
	if !ok {
		return nil
	}
	if err := d.mounts.Drop(dir + "/fs"); err != nil {
		return err
	}
	if err := d.pool.deactivate(context.Background(), id); err != nil {
		return err
	}
	return d.pool.delete(id)
}

// Measure implements snapshot.Form: it adds up the files in which the snapshot
// differs from its parent.
func (d *Driver) Measure(ctx context.Context, kind snapshot.Kind, dirs []string) (snapshot.Usage, error) {
	root, err := d.Mount(kind, dirs)
	if err != nil {
		return snapshot.Usage{}, err
	}
	parent := snapshot.Root{}
	if len(dirs) > 1 {
		if parent, err = d.Mount(snapshot.Committed, dirs[1:]); err != nil {
			return snapshot.Usage{}, err
		}
	}
	return snapshot.TreeUsage(ctx, parent.Path, root.Path)
}

// Bound implements snapshot.Form: the device gets that size, and the file
// system on it grows. It cannot be smaller than the base.
func (d *Driver) Bound(_ context.Context, dir string, bytes int64) error {
	bytes -= bytes % 4096
	if bytes < d.base.Size {
		return errdefs.Invalidf("devicemapper: a container cannot have less than the base device's %s (dm.basesize)", units.BytesSize(float64(d.base.Size)))
	}
	id, _ := idOf(dir)
	if err := atomicfile.Write(dir+"/size", []byte(strconv.FormatInt(bytes, 10)), 0o600); err != nil {
		return err
	}
	if _, err := d.Mount(snapshot.Active, []string{dir}); err != nil {
		return err
	}
	dev, _, err := d.pool.Find(d.pool.name(id))
	if err != nil {
		return err
	}
	if err := d.pool.Load(dev, false, d.pool.table(id, bytes)); err != nil {
		return err
	}
	if err := errors.Join(d.pool.Suspend(dev), d.pool.Resume(dev)); err != nil {
		return err
	}
	return d.grow(dir+"/fs", bytes)
}
