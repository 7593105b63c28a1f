package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/volume"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/linux/mount"
	"lade/internal/linux/sys"
	"lade/internal/plugin"
	"lade/internal/store"
	"lade/internal/volume/remote"
)

// What a plugin mounts is bound at the path that the volume has here, so that who
// uses volumes need not know of plugins.
//
// A plugin counts who needs a volume. So that it counts right after a crash of the
// engine, too, each user is noted as an empty file in the volume's directory
// before the plugin is told of them, and until it was told that they are gone.

// notes is the directory of a volume with a file for each user that its plugin was
// told of.
const notes = "users"

// drivers are the plugins that were asked for volumes.
type drivers struct {
	dirs plugin.Dirs
	ctx  context.Context // of what nobody waits for; ends with the engine
	end  context.CancelFunc

	mutex sync.Mutex
	known map[string]*remote.Driver // guarded by mutex
}

func (d *drivers) begin() { d.ctx, d.end = context.WithCancel(context.Background()) }

// UsePlugins says where volume plugins are. It is called once, after New and
// before anything else.
func (d *drivers) UsePlugins(dirs plugin.Dirs) { d.dirs = dirs }

// driver returns the driver of a name, which need not exist.
func (d *drivers) driver(name string) *remote.Driver {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.known == nil {
		d.known = map[string]*remote.Driver{}
	}
	if d.known[name] == nil {
		d.known[name] = remote.New(name, d.dirs)
	}
	return d.known[name]
}

// find returns the driver that knows a volume, of all plugins that there are; nil
// without one.
func (d *drivers) find(ctx context.Context, name string) *remote.Driver {
	for _, n := range d.dirs.Names() {
		it := d.driver(n)
		if v, err := it.Get(ctx, name); err == nil && v.Name == name {
			return it
		}
	}
	return nil
}

// driverOf says which driver a volume has or will have: the one that is asked for,
// the one that it has already, that of the plugin that knows it, the engine's own.
// Errors: NotFound for a plugin that is not there, Conflict for a volume that has
// another driver.
func (v *Volumes) driverOf(ctx context.Context, name, asked string) (string, error) {
	if asked != "" && asked != driver {
		if _, err := v.dirs.Find(asked); err != nil {
			return "", errdefs.NotFoundf("error looking up volume plugin %s: plugin %q not found", asked, asked)
		}
	}
	v.mu.Lock()
	r, exists := v.all[name]
	v.mu.Unlock()
	has := cmp.Or(r.Driver, driver)
	switch {
	case exists && asked != "" && asked != has:
		return "", errdefs.Conflictf("driver '%s' already has volume '%s': volume name must be unique", has, name)
	case exists:
		return has, nil
	case asked != "":
		return asked, nil
	}
	if it := v.find(ctx, name); it != nil {
		return it.Name(), nil
	}
	return driver, nil
}

// foreign reports whether a volume is a plugin's.
func (v *Volumes) foreign(ctx context.Context, name string) bool {
	has, err := v.driverOf(ctx, name, "")
	return err == nil && has != driver
}

// prepareForeign is Prepare for a volume of a plugin, which is asked to make it
// unless it has it already. Errors: the plugin's; Conflict for one that containers
// use and that the plugin does not know any more.
func (v *Volumes) prepareForeign(ctx context.Context, q volume.CreateRequest) (vol *volume.Volume, created bool, err error) {
	name, d := q.Name, v.driver(q.Driver)
	defer func() {
		if err != nil {
			err = fmt.Errorf("create %s: %w", name, err)
		}
	}()
	m := v.mount(name)
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	}
	defer func() { <-m.turn }()

	_, err = d.Get(ctx, name)
	lost := errdefs.KindOf(err) == errdefs.NotFound && ctx.Err() == nil
	v.mu.Lock()
	r, exists := v.all[name]
	used := len(v.refs[name]) > 0
	v.mu.Unlock()
	switch {
	case err != nil && !lost && exists:
		return nil, false, errdefs.Conflictf("found reference to volume '%s' in driver '%s', but got an error while checking the driver: %w: volume name must be unique", name, q.Driver, err)
	case err != nil && !lost:
		return nil, false, err
	case lost && used:
		return nil, false, errdefs.Conflictf("found references to volume '%s' in driver '%s' but the volume was not found in the driver -- you may need to remove containers referencing this volume or force remove the volume to re-create it: volume name must be unique", name, q.Driver)
	}
	if lost {
		if err := d.Create(ctx, name, q.DriverOpts); err != nil {
			return nil, false, err
		}
	}
	if err := v.Ensure(name); err != nil {
		return nil, false, err
	}
	if exists {
		return v.show(r), false, nil
	}
	r = record{Name: name, Created: time.Now().UTC(), Labels: q.Labels, Options: q.DriverOpts, Driver: q.Driver, found: !lost}
	v.mu.Lock()
	v.all[name], v.unsaved[name] = r, true
	v.mu.Unlock()
	return v.show(r), true, nil
}

// undoForeign has a plugin remove a volume that was made for nothing.
func (v *Volumes) undoForeign(r record) {
	if r.Driver == "" || r.found {
		return
	}
	v.trash.Go(func() {
		if err := v.driver(r.Driver).Remove(v.ctx, r.Name); err != nil {
			v.log.Warn("a plugin keeps a volume that was made for nothing", "volume", r.Name, "driver", r.Driver, "error", err)
		}
	})
}

// removeForeign is Remove for a volume of a plugin.
func (v *Volumes) removeForeign(ctx context.Context, name string, force bool) error {
	m := v.mount(name) // whoever leaves just now does so first
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-m.turn }()
	v.mu.Lock()
	r, known := v.all[name]
	users := slices.Sorted(maps.Keys(v.refs[name]))
	if known && len(users) == 0 {
		delete(v.all, name) // from here on it cannot be used
	}
	v.mu.Unlock()
	if len(users) > 0 {
		return errdefs.Conflictf("remove %s: volume is in use - [%s]", name, strings.Join(users, ", "))
	}
	if !known {
		it := v.find(ctx, name)
		if it == nil {
			return errdefs.NotFoundf("get %s: no such volume", name)
		}
		r = record{Name: name, Driver: it.Name()}
	}
	err := v.driver(r.Driver).Remove(ctx, name)
	if err != nil {
		err = fmt.Errorf("remove %s: %w", name, err)
	}
	if err == nil || force {
		var b store.Batch
		b.Delete(bucket, name)
		if failed := v.store.Commit(context.WithoutCancel(ctx), &b); failed != nil {
			err = errors.Join(err, failed)
		} else {
			v.forget(name)
			v.discard(filepath.Join(v.dir, name))
			return err
		}
	}
	if known {
		v.mu.Lock()
		v.all[name] = r
		v.mu.Unlock()
	}
	return err
}

// attachForeign has a plugin mount a volume for a user, and binds it at the
// volume's path for the first. It ends when the plugin has answered, not when
// the user does not wait any more: what is done can be taken back, what may be
// done some time cannot.
func (v *Volumes) attachForeign(r record, user string, first bool) error {
	if err := v.Ensure(r.Name); err != nil {
		return err
	}
	v.settle(r)
	if err := v.note(r.Name, user); err != nil {
		return err
	}
	at, err := v.driver(r.Driver).Mount(v.ctx, r.Name, user)
	switch {
	case remote.Said(err): // it does not count them
		return errors.Join(err, v.strike(r.Name, user))
	case err == nil && first:
		err = bind(at, v.Path(r.Name))
	}
	if err != nil {
		return errors.Join(err, v.leaveForeign(r, user))
	}
	failpoint.Hit("volume.mounted")
	return nil
}

// bind shows a directory, with what is mounted below, at another place, where
// what becomes of the mounts there has no effect on it.
func bind(from, to string) error {
	fd, err := unix.Open(from, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return sys.Error("open", from, err)
	}
	defer sys.CloseAll(fd)
	tree, err := mount.Clone(fd, &mount.Options{Recursive: true})
	if err != nil {
		return err
	}
	defer sys.CloseAll(tree)
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Propagation: unix.MS_PRIVATE}); err != nil {
		return sys.Error("mount_setattr", from, err)
	}
	return mount.Attach(tree, to)
}

// leaveForeign tells a plugin that a user is gone. One that cannot be told keeps
// its note.
func (v *Volumes) leaveForeign(r record, user string) error {
	err := v.driver(r.Driver).Unmount(v.ctx, r.Name, user)
	if err == nil || remote.Said(err) {
		err = errors.Join(err, v.strike(r.Name, user))
	}
	return err
}

func (v *Volumes) note(name, user string) error {
	dir := filepath.Join(v.dir, name, notes)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, user), nil, 0o600)
}

func (v *Volumes) strike(name, user string) error {
	return os.Remove(filepath.Join(v.dir, name, notes, user))
}

// settle tells a plugin of users that are gone and that it was not told of. The
// caller has the mount's turn.
func (v *Volumes) settle(r record) {
	left, err := os.ReadDir(filepath.Join(v.dir, r.Name, notes))
	if err != nil {
		return // no users so far
	}
	m := v.mount(r.Name)
	for _, e := range left {
		if m.users[e.Name()] {
			continue
		}
		if err := v.leaveForeign(r, e.Name()); err != nil {
			v.log.Info("a plugin was not told that a volume is not used any more", "volume", r.Name, "driver", r.Driver, "error", err)
		}
	}
}

// recoverForeign settles what an engine that died left, in the background: a
// plugin may come later than the engine.
func (v *Volumes) recoverForeign() {
	for _, r := range v.foreigners() {
		if _, err := os.Stat(filepath.Join(v.dir, r.Name, notes)); err != nil {
			continue
		}
		m := v.mount(r.Name)
		v.trash.Go(func() {
			m.turn <- struct{}{}
			defer func() { <-m.turn }()
			v.settle(r)
		})
	}
}

// foreigners are the records of volumes of plugins.
func (v *Volumes) foreigners() (all []record) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range v.all {
		if r.Driver != "" {
			all = append(all, r)
		}
	}
	return all
}

// Drivers returns the names of the drivers that volumes have: the engine's first.
func (v *Volumes) Drivers() []string {
	names := []string{}
	for _, r := range v.foreigners() {
		names = append(names, r.Driver)
	}
	slices.Sort(names)
	return append([]string{driver}, slices.Compact(names)...)
}

// Ask is Inspect that asks the plugin of a volume what it knows, and all plugins
// for a volume that has no record. Errors: NotFound; those of reaching it.
func (v *Volumes) Ask(ctx context.Context, name string) (*volume.Volume, error) {
	v.mu.Lock()
	r, known := v.all[name]
	v.mu.Unlock()
	if known && r.Driver == "" {
		return v.show(r), nil
	}
	var d *remote.Driver
	if known {
		d = v.driver(r.Driver)
	} else if d = v.find(ctx, name); d == nil {
		return nil, errdefs.NotFoundf("get %s: no such volume", name)
	} else {
		r = record{Name: name, Driver: d.Name()}
	}
	said, err := d.Get(ctx, name)
	if errdefs.KindOf(err) == errdefs.NotFound {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: error while checking if volume %q exists in driver %q: %w", name, name, r.Driver, err)
	}
	out := v.merge(r, said, d.Scope(ctx))
	if out.Mountpoint == "" {
		if at, err := d.Path(ctx, name); err == nil { // else it is not said
			out.Mountpoint = at
		}
	}
	return out, nil
}

// merge is a volume as its record and its plugin have it.
func (v *Volumes) merge(r record, said remote.Volume, scope string) *volume.Volume {
	out := v.show(r)
	out.Scope, out.Mountpoint, out.Status = scope, said.Mountpoint, said.Status
	if r.Created.IsZero() || said.CreatedAt != "" {
		out.CreatedAt = said.CreatedAt
	}
	return out
}

// All is List with the volumes of all plugins, those that have no record here
// among them. A plugin that does not answer is a warning, and its volumes are as
// the records say.
func (v *Volumes) All(ctx context.Context) (all []*volume.Volume, warnings []string) {
	known := map[string]record{}
	for _, r := range v.foreigners() {
		known[r.Name] = r
	}
	names := v.dirs.Names()
	for _, r := range known {
		names = append(names, r.Driver)
	}
	slices.Sort(names)
	all = v.List()
	for _, n := range slices.Compact(names) {
		d := v.driver(n)
		said, err := d.List(ctx)
		if errdefs.KindOf(err) == errdefs.NotFound && !slices.ContainsFunc(all, func(o *volume.Volume) bool { return o.Driver == n }) {
			continue // a plugin of another kind
		}
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("list %s: %s", n, err))
			continue
		}
		all = slices.DeleteFunc(all, func(o *volume.Volume) bool { return o.Driver == n })
		for _, s := range said {
			r, ok := known[s.Name]
			if !ok {
				r = record{Name: s.Name, Driver: n}
			}
			if ok && r.Driver != n || slices.ContainsFunc(all, func(o *volume.Volume) bool { return o.Name == s.Name }) {
				continue // the name is another's
			}
			all = append(all, v.merge(r, s, d.Scope(ctx)))
		}
	}
	slices.SortFunc(all, func(a, b *volume.Volume) int { return strings.Compare(a.Name, b.Name) })
	return all, warnings
}
