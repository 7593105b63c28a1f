package volume

import (
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
}

// Volumes is the set of volumes below one directory.
type Volumes struct {
	dir   string
	store *store.Store
	log   *slog.Logger
	trash sync.WaitGroup

	mu   sync.Mutex
	all  map[string]record
	refs map[string]map[string]bool // volume → container ids
}

// New reads the volumes of dir and clears what a removal left behind.
func New(dir string, s *store.Store, log *slog.Logger) (*Volumes, error) {
	v := &Volumes{dir: dir, store: s, log: log, all: map[string]record{}, refs: map[string]map[string]bool{}}
	if err := os.MkdirAll(dir, 0o701); err != nil {
		return nil, err
	}
	for name, raw := range s.Walk(bucket) {
		var r record
		if err := json.Unmarshal(raw, &r); err != nil {
			return nil, fmt.Errorf("record of volume %s: %w", name, err)
		}
		v.all[name] = r
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if _, known := v.all[e.Name()]; !known {
			v.discard(filepath.Join(dir, e.Name()))
		}
	}
	return v, nil
}

// Close waits for removals that are under way.
func (v *Volumes) Close() { v.trash.Wait() }

// Path returns the directory that holds a volume's data.
func (v *Volumes) Path(name string) string { return filepath.Join(v.dir, name, "_data") }

// Create makes a volume, or returns the one of that name: creating is
// idempotent. An empty name makes an anonymous volume. created reports whether
// it is new. Errors: NotFound for an unknown driver, Invalid for a bad name or
// option, NotImplemented for mount options.
func (v *Volumes) Create(ctx context.Context, r volume.CreateRequest) (vol *volume.Volume, created bool, err error) {
	name := r.Name
	switch {
	case r.Driver != "" && r.Driver != driver:
		return nil, false, errdefs.NotFoundf("create %s: error looking up volume plugin %s: plugin %q not found", name, r.Driver, r.Driver)
	case name == "":
		name = ids.New()
		r.Labels = maps.Clone(r.Labels)
		if r.Labels == nil {
			r.Labels = map[string]string{}
		}
		r.Labels[Anonymous] = ""
	case !ids.ValidName(name):
		return nil, false, errdefs.Invalidf("create %s: %q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path", name, name)
	}
	if len(r.DriverOpts) > 0 {
		keys := slices.Sorted(maps.Keys(r.DriverOpts))
		return nil, false, errdefs.NotImplementedf("create %s: volume options (%s) are not implemented yet", name, strings.Join(keys, ", "))
	}
	v.mu.Lock()
	rec, exists := v.all[name]
	if !exists {
		rec = record{Name: name, Created: time.Now().UTC(), Labels: r.Labels, Options: r.DriverOpts}
		v.all[name] = rec
	}
	v.mu.Unlock()
	if !exists {
		if err := v.persist(ctx, rec); err != nil {
			v.forget(name)
			return nil, false, err
		}
	}
	if err := v.Ensure(name); err != nil {
		return nil, false, err
	}
	return v.show(rec), !exists, nil
}

func (v *Volumes) persist(ctx context.Context, r record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	var b store.Batch
	b.Put(bucket, r.Name, raw)
	return v.store.Commit(ctx, &b)
}

func (v *Volumes) forget(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.all, name)
	delete(v.refs, name)
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

// Inspect returns a volume, or NotFound.
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
		Name: r.Name, Driver: driver, Scope: "local", Mountpoint: v.Path(r.Name),
		CreatedAt: r.Created.Format(time.RFC3339), Labels: r.Labels, Options: r.Options,
	}
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

// Remove deletes a volume and its data. Errors: NotFound unless force,
// Conflict while a container uses it.
func (v *Volumes) Remove(ctx context.Context, name string, force bool) error {
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
		if err := os.RemoveAll(trash); err != nil {
			v.log.Warn("volume data stays behind", "path", trash, "error", err)
		}
	})
}
