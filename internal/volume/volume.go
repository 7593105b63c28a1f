package volume

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/volume"

	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/ids"
	"lade/internal/store"
)

const (
	bucket = store.Bucket("volumes")
	driver = "local"

	// Anonymous is the label of volumes that were given no name; prune removes
	// these unless told otherwise.
	Anonymous = "com.docker.volume.anonymous"
)

// record is a volume as persisted.
type record struct {
	Name    string            `json:"name"`
	Created time.Time         `json:"created"`
	Labels  map[string]string `json:"labels,omitempty"`
	Options map[string]string `json:"options,omitempty"`
	// Driver is the plugin that has the files; "": the engine.
	Driver string `json:"driver,omitempty"`
	// found says that the driver had the volume before anybody asked for it here.
	found bool
	// ReadOnly says that it is a snapshot, which containers only read.
	ReadOnly bool `json:"read_only,omitempty"`
	// From is the name that the directory still has in the middle of a rename.
	From string `json:"from,omitempty"`
}

// Volumes is the set of volumes below one directory.
type Volumes struct {
	dir   string
	store *store.Store
	log   *slog.Logger
	trash sync.WaitGroup
	drivers

	mu  sync.Mutex
	all map[string]record
	// unsaved are the volumes that were prepared for a container whose record,
	// with theirs, is not written yet.
	unsaved map[string]bool
	refs    map[string]map[string]bool // volume → container ids
	mounts  map[string]*mounted        // volumes with a device that were mounted
	busy    map[string]bool            // names that are being given or taken
}

// New reads the volumes of dir and clears what a removal left behind.
func New(dir string, s *store.Store, log *slog.Logger) (*Volumes, error) {
	v := &Volumes{dir: dir, store: s, log: log, all: map[string]record{}, unsaved: map[string]bool{}, refs: map[string]map[string]bool{}, mounts: map[string]*mounted{}, busy: map[string]bool{}}
	// Nobody else of the machine passes: what a container's root leaves in a volume
	// may be a program with a set-user-ID bit (CVE-2021-41091). Earlier versions
	// made it passable.
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chmod(dir, 0o700)); err != nil {
		return nil, err
	}
	// Mount points are compared with what the kernel calls them.
	var err error
	if v.dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	for name, raw := range s.Walk(bucket) {
		var r record
		if err := json.Unmarshal(raw, &r); err != nil {
			return nil, fmt.Errorf("record of volume %s: %w", name, err)
		}
		v.all[name] = r
	}
	v.drivers.begin()
	if err := v.followNames(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(v.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if _, known := v.all[e.Name()]; !known {
			v.discard(filepath.Join(v.dir, e.Name()))
		}
	}
	return v, nil
}

// Close waits for removals that are under way. What plugins were not told by then
// they are told by the next one.
func (v *Volumes) Close() {
	v.drivers.end()
	v.trash.Wait()
}

// Path returns the directory that holds a volume's data.
func (v *Volumes) Path(name string) string { return filepath.Join(v.dir, name, data) }

// data is the directory of the files below a volume's own.
const data = "_data"

// checkName refuses what cannot be the name of a volume. Errors: Invalid, in
// Docker's words.
func checkName(name string) error {
	switch {
	case len(name) == 1:
		return errdefs.Invalidf("create %s: volume name is too short, names should be at least two alphanumeric characters", name)
	case !ids.ValidName(name):
		return errdefs.Invalidf("create %s: %q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path", name, name)
	}
	return nil
}

// Create makes a volume, or returns the one of that name: creating is
// idempotent. An empty name makes an anonymous volume. created reports whether
// it is new. Errors: NotFound for an unknown driver, Invalid for a bad name or
// option.
func (v *Volumes) Create(ctx context.Context, r volume.CreateRequest) (vol *volume.Volume, created bool, err error) {
	vol, created, err = v.Prepare(ctx, r)
	if err != nil {
		return nil, false, err
	}
	v.mu.Lock()
	rec, unsaved := v.all[vol.Name], v.unsaved[vol.Name]
	v.mu.Unlock()
	if unsaved {
		var b store.Batch
		if err = put(&b, rec); err == nil {
			err = v.store.Commit(ctx, &b)
		}
		if err != nil {
			if created {
				v.Undo(vol.Name)
			}
			return nil, false, err
		}
		v.mu.Lock()
		delete(v.unsaved, vol.Name)
		v.mu.Unlock()
	}
	return vol, created, nil
}

// Prepare is Create without writing the record: Put does that, together with
// the record of the container that the volume is for. A crash before that
// leaves nothing, unless a plugin keeps the volume. It must be followed by Use,
// and by Put or Remove. It blocks while a plugin is asked, or until ctx ends.
func (v *Volumes) Prepare(ctx context.Context, r volume.CreateRequest) (vol *volume.Volume, created bool, err error) {
	if r.Name == "" {
		r.Name = ids.New()
		r.Driver = cmp.Or(r.Driver, driver)
		r.Labels = maps.Clone(r.Labels)
		if r.Labels == nil {
			r.Labels = map[string]string{}
		}
		r.Labels[Anonymous] = ""
	} else if err := checkName(r.Name); err != nil {
		return nil, false, err
	}
	if r.Driver, err = v.driverOf(ctx, r.Name, r.Driver); err != nil {
		return nil, false, fmt.Errorf("create %s: %w", r.Name, err)
	}
	if r.Driver != driver {
		return v.prepareForeign(ctx, r)
	}
	name := r.Name
	from, err := parseOptions(r.DriverOpts)
	if err != nil {
		return nil, false, errdefs.Invalidf("create %s: %w", name, err)
	}
	v.mu.Lock()
	rec, exists := v.all[name]
	if v.busy[name] {
		v.mu.Unlock()
		return nil, false, errdefs.Conflictf("create %s: a volume of that name is being made or renamed", name)
	}
	if !exists {
		rec = record{Name: name, Created: time.Now().UTC(), Labels: r.Labels, Options: r.DriverOpts}
		v.all[name] = rec
		v.unsaved[name] = true
	}
	v.mu.Unlock()
	if exists {
		err = v.Ensure(name)
	} else {
		err = v.makeData(v.Path(name), from)
	}
	if err != nil {
		if !exists {
			v.Undo(name)
		}
		return nil, false, err
	}
	return v.show(rec), !exists, nil
}

// Undo takes back a volume that was prepared, unless its record was written or
// somebody uses it.
func (v *Volumes) Undo(name string) {
	v.mu.Lock()
	unused := v.unsaved[name] && len(v.refs[name]) == 0
	r := v.all[name]
	v.mu.Unlock()
	if unused {
		v.forget(name)
		v.discard(filepath.Join(v.dir, name))
		v.undoForeign(r)
	}
}

func put(b *store.Batch, r record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	b.Put(bucket, r.Name, raw)
	return nil
}

// Put adds the records of the volumes that were prepared for a container to a
// batch. saved must be called when the batch is committed.
func (v *Volumes) Put(b *store.Batch, container string) (saved func(), err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var names []string
	for name := range v.unsaved {
		if !v.refs[name][container] {
			continue
		}
		if err := put(b, v.all[name]); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		for _, name := range names {
			delete(v.unsaved, name)
		}
	}, nil
}

// Erase adds to a batch the removal of those of the volumes that only this
// container uses; from here on nobody can use them. After the commit Clear
// deletes their files; undo makes them usable again if it failed.
func (v *Volumes) Erase(b *store.Batch, container string, names []string) (undo func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	taken := map[string]record{}
	for _, name := range names {
		r, ok := v.all[name]
		others := len(v.refs[name])
		if v.refs[name][container] {
			others--
		}
		if ok && others == 0 && r.Driver == "" { // a plugin's volume is removed by Clear
			taken[name] = r
			delete(v.all, name)
			b.Delete(bucket, name)
		}
	}
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		maps.Copy(v.all, taken)
	}
}

// Clear deletes the files of a volume that was erased, and a plugin's volume that
// nobody uses; it reports whether there was something to delete. It blocks while
// a plugin is asked, or until ctx ends.
func (v *Volumes) Clear(ctx context.Context, name string) bool {
	v.mu.Lock()
	r, there := v.all[name]
	v.mu.Unlock()
	if r.Driver != "" {
		err := v.Remove(ctx, name, false)
		if err != nil {
			v.log.Warn("an anonymous volume stays", "volume", name, "error", err)
		}
		return err == nil
	}
	if there {
		return false
	}
	v.forget(name)
	v.discard(filepath.Join(v.dir, name))
	return true
}

func (v *Volumes) forget(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.all, name)
	delete(v.unsaved, name)
	delete(v.refs, name)
	delete(v.mounts, name)
}

// makeData makes the directory of a new volume's files, with the owner and the
// limit that its options say. Errors: Invalid for a limit that cannot be.
func (v *Volumes) makeData(dir string, s source) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o701); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if s.size > 0 {
		if err := bound(dir, s.size); err != nil {
			return errdefs.Invalidf("quota size requested but no quota support: %w", err)
		}
	}
	if s.uid >= 0 || s.gid >= 0 {
		return os.Lchown(dir, s.uid, s.gid)
	}
	return nil
}

// Ensure makes the volume's directory if it is missing.
func (v *Volumes) Ensure(name string) error {
	if err := os.MkdirAll(filepath.Join(v.dir, name), 0o701); err != nil {
		return err
	}
	err := os.Mkdir(v.Path(name), 0o755)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

// Inspect returns a volume, or NotFound. Of one of a plugin it does not know more
// than its record does: Ask does.
func (v *Volumes) Inspect(name string) (*volume.Volume, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	r, ok := v.all[name]
	if !ok {
		return nil, errdefs.NotFoundf("get %s: no such volume", name)
	}
	return v.show(r), nil
}

// List returns all volumes by name.
func (v *Volumes) List() []*volume.Volume {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := make([]*volume.Volume, 0, len(v.all))
	for _, name := range slices.Sorted(maps.Keys(v.all)) {
		out = append(out, v.show(v.all[name]))
	}
	return out
}

func (v *Volumes) show(r record) *volume.Volume {
	return &volume.Volume{
		Name: r.Name, Driver: cmp.Or(r.Driver, driver), Scope: "local", Mountpoint: v.Path(r.Name),
		CreatedAt: r.Created.Format(time.RFC3339), Labels: r.Labels, Options: r.Options, Status: r.status(),
	}
}

// status is what inspect shows beside Docker's fields.
func (r record) status() map[string]any {
	if !r.ReadOnly {
		return nil
	}
	return map[string]any{"ReadOnly": true}
}

// ReadOnly reports whether a volume is a snapshot, which nobody writes to.
func (v *Volumes) ReadOnly(name string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.all[name].ReadOnly
}

// Use notes that a container uses a volume. NotFound if there is none.
func (v *Volumes) Use(name, container string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.all[name]; !ok {
		return errdefs.NotFoundf("get %s: no such volume", name)
	}
	if v.refs[name] == nil {
		v.refs[name] = map[string]bool{}
	}
	v.refs[name][container] = true
	return nil
}

// Release drops a container's references.
func (v *Volumes) Release(container string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range v.refs {
		delete(r, container)
	}
}

// Users returns the ids of the containers that use a volume.
func (v *Volumes) Users(name string) []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Sorted(maps.Keys(v.refs[name]))
}

// Remove deletes a volume and its data. One of a plugin it asks the plugin to
// remove; should that fail, force forgets it all the same, with the plugin's
// error. Errors: NotFound unless force, Conflict while a container uses it, the
// plugin's.
func (v *Volumes) Remove(ctx context.Context, name string, force bool) error {
	if v.foreign(ctx, name) {
		return v.removeForeign(ctx, name, force)
	}
	v.mu.Lock()
	_, ok := v.all[name]
	users := slices.Sorted(maps.Keys(v.refs[name]))
	if ok && len(users) == 0 {
		delete(v.all, name) // from here on it cannot be used
	}
	v.mu.Unlock()
	switch {
	case !ok && force:
		return nil
	case !ok:
		return errdefs.NotFoundf("get %s: no such volume", name)
	case len(users) > 0:
		return errdefs.Conflictf("remove %s: volume is in use - [%s]", name, strings.Join(users, ", "))
	}
	var b store.Batch
	b.Delete(bucket, name)
	if err := v.store.Commit(ctx, &b); err != nil {
		return err
	}
	failpoint.Hit("volume.removed")
	v.forget(name)
	v.discard(filepath.Join(v.dir, name))
	return nil
}

// discard renames a directory out of the way and deletes it in the background.
func (v *Volumes) discard(path string) {
	trash := path
	if filepath.Ext(path) != ".trash" {
		trash = filepath.Join(v.dir, ids.New()+".trash")
		if err := os.Rename(path, trash); err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				v.log.Warn("volume data stays behind", "path", path, "error", err)
			}
			return
		}
	}
	v.trash.Go(func() {
		if err := v.clear(trash); err != nil {
			v.log.Warn("volume data stays behind", "path", trash, "error", err)
		}
	})
}

// Drop drops a container's reference to one volume.
func (v *Volumes) Drop(name, container string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.refs[name], container)
}
