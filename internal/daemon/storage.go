package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/go-units"

	"lade/internal/errdefs"
	"lade/internal/snapshot"
	"lade/internal/snapshot/aufs"
	"lade/internal/snapshot/btrfs"
	"lade/internal/snapshot/devicemapper"
	"lade/internal/snapshot/overlay2"
	"lade/internal/snapshot/vfs"
	"lade/internal/snapshot/zfs"
)

// driver is a storage driver.
type driver struct {
	name   string
	others []string // names
	// options are those of --storage-opt that it takes, besides <name>.size.
	options []string
	probe   func(dir string) error
	open    func(ctx context.Context, root string, options map[string]string, log *slog.Logger) (snapshot.Snapshotter, error)
	survey  func(root string, log *slog.Logger) (all []snapshot.Info, stray []string, err error)
}

// drivers are all there are.
var drivers = []driver{
	{
		name: "overlay2", others: []string{"overlayfs", "overlay"}, options: []string{"overlay2.override_kernel_check"},
		probe: func(dir string) error { _, err := snapshot.ProbeOverlay(dir); return err },
		open: func(_ context.Context, root string, _ map[string]string, log *slog.Logger) (snapshot.Snapshotter, error) {
			return opened(overlay2.New(root, log))
		},
		survey: overlay2.Survey,
	},
	{
		name: "btrfs", options: []string{"btrfs.min_space"}, probe: btrfs.Probe,
		open: func(_ context.Context, root string, _ map[string]string, log *slog.Logger) (snapshot.Snapshotter, error) {
			return opened(btrfs.New(root, log))
		},
		survey: btrfs.Survey,
	},
	{
		name: "zfs", options: []string{"zfs.fsname"}, probe: zfs.Probe,
		open: func(ctx context.Context, root string, options map[string]string, log *slog.Logger) (snapshot.Snapshotter, error) {
			return opened(zfs.New(ctx, root, options["zfs.fsname"], log))
		},
		survey: zfs.Survey,
	},
	{
		name: "devicemapper", options: devicemapper.Names(), probe: devicemapper.Probe,
		open: func(ctx context.Context, root string, options map[string]string, log *slog.Logger) (snapshot.Snapshotter, error) {
			o, err := devicemapper.Parse(options)
			if err != nil {
				return nil, err
			}
			return opened(devicemapper.New(ctx, root, o, log))
		},
		survey: devicemapper.Survey,
	},
	{
		name: "aufs", probe: aufs.Probe,
		open: func(_ context.Context, root string, _ map[string]string, log *slog.Logger) (snapshot.Snapshotter, error) {
			return opened(aufs.New(root, log))
		},
		survey: aufs.Survey,
	},
	{
		name: "vfs", probe: func(dir string) error { return os.MkdirAll(dir, 0o700) },
		open: func(_ context.Context, root string, _ map[string]string, log *slog.Logger) (snapshot.Snapshotter, error) {
			return opened(vfs.New(root, log))
		},
		survey: vfs.Survey,
	},
}

// opened keeps a nil driver from becoming an interface that is not nil.
func opened[D snapshot.Snapshotter](d D, err error) (snapshot.Snapshotter, error) {
	if err != nil {
		return nil, err
	}
	return d, nil
}

// findDriver returns the driver of a name. Errors: Invalid.
func findDriver(name string) (driver, error) {
	for _, d := range drivers {
		if d.name == name || slices.Contains(d.others, name) {
			return d, nil
		}
	}
	return driver{}, errdefs.Invalidf("unknown storage driver %q", name)
}

// validate checks what can be checked without looking at the data root: the
// options belong to a driver, which is known once it is named. Errors: Invalid.
func (s *Storage) validate() error {
	if s.StorageDriver == "" {
		return nil
	}
	d, err := findDriver(s.StorageDriver)
	if err != nil {
		return err
	}
	options, err := d.parse(s.StorageOptions)
	if err != nil {
		return err
	}
	_, err = d.size(options)
	return err
}

// storage is the storage driver of a daemon.
type storage struct {
	snapshot.Snapshotter
	why  string // it is this one
	size int64  // bytes that a container's own files may take unless it says otherwise; 0: no limit
}

// openStorage opens the storage driver that was asked for, or the best one.
func openStorage(ctx context.Context, c *Config, log *slog.Logger) (*storage, error) {
	name, why := c.StorageDriver, "it was asked for"
	if name == "" {
		var candidates []snapshot.Candidate
		for _, d := range drivers {
			candidates = append(candidates, snapshot.Candidate{Name: d.name, Probe: d.probe})
		}
		var err error
		if name, why, err = snapshot.Choose(c.DataRoot, snapshot.ReadRelease("/etc/os-release"), candidates); err != nil {
			return nil, err
		}
	}
	d, err := findDriver(name)
	if err != nil {
		return nil, err
	}
	options, err := d.parse(c.StorageOptions)
	if err != nil {
		return nil, err
	}
	s := &storage{why: why}
	if s.size, err = d.size(options); err != nil {
		return nil, err
	}
	log.Debug("storage driver", "name", d.name, "why", why)
	s.Snapshotter, err = d.open(ctx, filepath.Join(c.DataRoot, d.name), options, log)
	if err != nil {
		return nil, err
	}
	if s.size > 0 {
		if err := s.tryLimit(ctx); err != nil {
			return nil, errdefs.Invalidf("storage option %s.size: %w", d.name, errors.Join(err, s.Close()))
		}
	}
	return s, nil
}

// tryLimit finds out whether the driver can limit a snapshot, on one that it
// makes for that.
func (s *storage) tryLimit(ctx context.Context) error {
	const key = "try-limit"
	_ = s.Remove(ctx, key) // of a start that was killed
	if _, err := s.Prepare(ctx, key, ""); err != nil {
		return err
	}
	return errors.Join(s.Limit(ctx, key, s.size), s.Remove(ctx, key))
}

// parse reads the values of --storage-opt. Errors: Invalid.
func (d driver) parse(list []string) (map[string]string, error) {
	options := make(map[string]string, len(list))
	for _, o := range list {
		k, v, ok := strings.Cut(o, "=")
		k = strings.ToLower(strings.TrimSpace(k))
		if !ok || k == "" {
			return nil, errdefs.Invalidf("invalid storage option %q: it must be of the form KEY=VALUE", o)
		}
		if k != d.name+".size" && !slices.Contains(d.options, k) {
			return nil, errdefs.Invalidf("%s: unknown option %s", d.name, k)
		}
		options[k] = strings.TrimSpace(v)
	}
	return options, nil
}

// size returns the default limit of containers; 0: none.
func (d driver) size(options map[string]string) (int64, error) {
	v, ok := options[d.name+".size"]
	if !ok {
		return 0, nil
	}
	size, err := units.RAMInBytes(v)
	if err != nil || size <= 0 {
		return 0, errdefs.Invalidf("%s: invalid size %q", d.name, v)
	}
	return size, nil
}

// surveyStorage reads the records of every driver that was used in a data root;
// what belongs to no snapshot is named by its path.
func surveyStorage(dataRoot string, log *slog.Logger) (all []snapshot.Info, stray []string, err error) {
	for _, d := range drivers {
		root := filepath.Join(dataRoot, d.name)
		if _, err := os.Stat(filepath.Join(root, "keys")); errors.Is(err, os.ErrNotExist) {
			continue
		}
		some, astray, err := d.survey(root, log)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, some...)
		for _, s := range astray {
			stray = append(stray, filepath.Join(root, s))
		}
	}
	return all, stray, nil
}
