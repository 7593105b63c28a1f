package snapshot

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/linux/atomicfile"
	"lade/internal/linux/xattr"
	"lade/internal/trace"
)

// maxKey is how many bytes a key may have; it names a file.
const maxKey = 200

// base is that of the numbers in names.
const base = 36

// buckets is over how many directories those of snapshots are spread.
const buckets = 256

// blanks is how many directories are made ahead of time, so that Prepare need
// not wait for the disk's allocator.
const blanks = 16

// place returns the path of the directory id below <root>/s.
func place(id uint64) string {
	return strconv.FormatUint(id%buckets, base) + "/" + strconv.FormatUint(id, base)
}

// ID returns the number of a snapshot's directory, which no other one of the
// driver has. Errors: Invalid for a path that is no such directory.
func ID(dir string) (uint64, error) {
	id, err := strconv.ParseUint(filepath.Base(dir), base, 64)
	if err != nil || filepath.Base(filepath.Dir(dir))+"/"+filepath.Base(dir) != place(id) {
		return 0, errdefs.Invalidf("%s is no snapshot's directory", dir)
	}
	return id, nil
}

// Form is what distinguishes the drivers that keep snapshots as directories.
// The directory of a snapshot holds "fs", its own files, and what else the
// form needs.
type Form interface {
	// Blank makes what the new, empty directory dir of an active snapshot needs
	// whatever its parent is. It is called ahead of time.
	Blank(dir string) error
	// Create makes of a blank directory a snapshot on top of that in parent,
	// "" for none. After an error dir is deleted.
	Create(ctx context.Context, dir, parent string) error
	// Rebases reports whether Create with a parent may be called for a snapshot
	// that was made without one and written to: what it does then concerns the
	// top directory's mode and owner only.
	Rebases() bool
	// Mount tells how to mount the snapshot in dirs[0], which lies on dirs[1:]; a
	// driver whose snapshots are trees mounts it by then, if it must.
	Mount(kind Kind, dirs []string) (Root, error)
	// Temporary names what a committed snapshot does not need of its directory.
	Temporary() []string
	// MaxDepth is how many snapshots may lie on one another.
	MaxDepth() int
	// Seal prepares the snapshot in dir for being read only, and makes durable
	// what syncfs on the file system of the data root does not.
	Seal(ctx context.Context, dir string) error
	// Discard gives back what is not deleted together with the files below dir,
	// or is faster deleted otherwise. It is called before these are, again after
	// a crash, and also for a path that holds no snapshot or is not there. After
	// an error they stay.
	Discard(dir string) error
	// Measure adds up what the snapshot in dirs[0], which lies on dirs[1:], has
	// for itself.
	Measure(ctx context.Context, kind Kind, dirs []string) (Usage, error)
	// Bound limits what the snapshot in dir, to which nothing was written yet,
	// can hold; see Snapshotter.Limit.
	Bound(ctx context.Context, dir string, bytes int64) error
}

// Dirs is the part of a Snapshotter that drivers with directories share: the
// records of what exists.
//
// On disk (docs/design/storage.md):
//
//	<root>/s/<bucket>/<id>/   the directory of a snapshot; id is a number in base 36
//	<root>/keys/<key>.<id>.<parent id>.<kind>.<created>
//	                          its record, which is the name of an empty file; kind
//	                          is a (active) or c (committed), created counts
//	                          milliseconds since 1970, in base 36
//
// A name appears, changes and disappears by one system call, `ls keys` shows
// all records, and reading them takes no more than listing a directory. What
// exists changes by these calls only:
//
//	Prepare  take a blank s/…/<id>  link keys/.record to the record      (no sync)
//	Commit   syncfs                 rename the record, fsync keys   (CommitOn, too)
//	Remove   unlink the record      s/…/<id> is deleted in the background
//
// A crash between two calls leaves a directory without a record, which
// OpenDirs deletes. That relies on the file system keeping the order of changes
// to names, as journalling ones do.
//
// Records are links to one file, and directories are spread over buckets,
// because ext4 does not use an inode again for up to five minutes after its
// file was deleted: where many containers come and go, each new file costs a
// search past all of those in its block group, up to a millisecond
// (recently_deleted in fs/ext4/ialloc.c). A link needs no inode, and each
// bucket lies in a block group of its own.
//
// Concurrency: all records are in memory; mu guards them and is never held
// during a system call. A snapshot that is being made or unmade is busy: it
// exists for nobody but whoever changes it. Calls of syncfs are shared by
// everybody who waits for one.
//
// Sources: link(2), rename(2), syncfs(2), fsync(2).
type Dirs struct {
	log   *slog.Logger
	dir   string // <root>/s
	one   string // <root>/keys/.record
	keys  string // <root>/keys
	form  Form
	sync  *syncer
	trash *trash
	stray func(name string) // told by load of what belongs to nobody, below dir

	mu    sync.Mutex
	byKey map[string]*record // guarded by mu
	next  uint64             // last id given out; guarded by mu
	made  [buckets]bool      // buckets that exist; guarded by mu
	blank []uint64           // ids of directories made ahead of time; guarded by mu
	busy  bool               // a goroutine makes such; guarded by mu
	wg    sync.WaitGroup     // of that goroutine
}

// record is one snapshot. Its fields but the last three never change.
type record struct {
	info   Info
	id     string
	path   string  // <root>/s/<bucket>/<id>
	parent *record // nil for none
	depth  int     // layers below
	blank  bool    // the directory was made ahead of time

	children int  // snapshots on top of it; guarded by Dirs.mu
	busy     bool // being made, committed or removed; guarded by Dirs.mu

	usage *Usage // of a committed snapshot, once asked for; guarded by Dirs.mu
}

// OpenDirs opens the directory root, which is made if it is missing, and clears
// what a crash left there. The caller must Close it.
func OpenDirs(root string, form Form, log *slog.Logger) (*Dirs, error) {
	d := &Dirs{
		log:   log,
		dir:   filepath.Join(root, "s"),
		keys:  filepath.Join(root, "keys"),
		one:   filepath.Join(root, "keys", ".record"),
		form:  form,
		byKey: make(map[string]*record),
	}
	for _, p := range []string{d.dir, d.keys} {
		if err := os.MkdirAll(p, 0o700); err != nil {
			return nil, err
		}
	}
	if err := xattr.SetTopDir(d.dir); err != nil && !xattr.Unsupported(err) {
		log.Debug("spread the directories of snapshots", "dir", d.dir, "error", err)
	}
	f, err := os.OpenFile(d.one, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Close(), atomicfile.SyncDir(root)); err != nil {
		return nil, err
	}
	if d.sync, err = newSyncer(d.dir); err != nil {
		return nil, err
	}
	d.trash = newTrash(d.dir, form.Discard, log)
	d.stray = d.trash.add
	if err := d.load(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// validKey keeps keys from being anything but one name in a directory.
func validKey(key string) error {
	if key == "" || len(key) > maxKey || key[0] == '.' || strings.ContainsAny(key, "/\x00") {
		return errdefs.Invalidf("invalid snapshot key %q", key)
	}
	return nil
}

// reserve makes a record that nobody else sees yet, on top of parent.
func (d *Dirs) reserve(key, parent string, kind Kind) (*record, error) {
	if err := validKey(key); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.byKey[key] != nil {
		return nil, errdefs.Conflictf("snapshot %s exists already", key)
	}
	r := &record{info: Info{Key: key, Kind: kind, Created: time.Now()}, busy: true}
	if parent != "" {
		if err := d.standLocked(r, parent); err != nil {
			return nil, err
		}
	}
	id, blank := d.takeLocked()
	r.id, r.blank = strconv.FormatUint(id, base), blank
	r.path = d.dir + "/" + place(id)
	d.byKey[key] = r
	return r, nil
}

// standLocked puts a new record on a parent, which then has one child more.
// d.mu is held.
func (d *Dirs) standLocked(r *record, parent string) error {
	p := d.byKey[parent]
	switch {
	case p == nil || p.busy && p.info.Kind == Committed:
		return errdefs.NotFoundf("parent snapshot %s does not exist", parent)
	case p.info.Kind != Committed:
		return errdefs.Conflictf("snapshot %s is active and cannot be a parent", parent)
	case p.depth+1 >= d.form.MaxDepth():
		return errdefs.Exhaustedf("max depth exceeded")
	}
	p.children++
	r.info.Parent, r.parent, r.depth = parent, p, p.depth+1
	return nil
}

// publish lets everybody see a record.
func (d *Dirs) publish(r *record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r.busy = false
}

// forget takes a record out of memory.
func (d *Dirs) forget(r *record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.byKey, r.info.Key)
	if r.parent != nil {
		r.parent.children--
	}
}

// get returns the record of key unless it is busy.
func (d *Dirs) get(key string) (*record, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.getLocked(key)
}

func (d *Dirs) getLocked(key string) (*record, error) {
	r := d.byKey[key]
	if r == nil || r.busy {
		return nil, errdefs.NotFoundf("snapshot %s does not exist", key)
	}
	return r, nil
}

// record returns the path of the record of r.
func (d *Dirs) record(r *record) string {
	parent := ""
	if r.parent != nil {
		parent = r.parent.id
	}
	kind := ".a."
	if r.info.Kind == Committed {
		kind = ".c."
	}
	return d.keys + "/" + r.info.Key + "." + r.id + "." + parent + kind + strconv.FormatInt(r.info.Created.UnixMilli(), base)
}

// Prepare implements Snapshotter.
func (d *Dirs) Prepare(ctx context.Context, key, parent string) (Root, error) {
	if err := context.Cause(ctx); err != nil {
		return Root{}, err
	}
	r, err := d.reserve(key, parent, Active)
	if err != nil {
		return Root{}, err
	}
	sp := trace.Begin(trace.File, "prepare", r.path)
	if err := sp.End(d.create(ctx, r)); err != nil {
		d.forget(r)
		d.trash.add(d.below(r))
		return Root{}, full(err)
	}
	d.publish(r)
	return d.form.Mount(Active, r.chain())
}

// create makes the directory of a new snapshot and then its record.
func (d *Dirs) create(ctx context.Context, r *record) error {
	if !r.blank {
		if err := d.mkdir(r.path); err != nil {
			return err
		}
	}
	parent := ""
	if r.parent != nil {
		parent = r.parent.path
	}
	if err := d.form.Create(ctx, r.path, parent); err != nil {
		return err
	}
	name := d.record(r)
	failpoint.Hit("snapshot.prepare")
	defer failpoint.Hit("snapshot.prepared")
	if os.Link(d.one, name) == nil {
		return nil
	}
	// The file system has no links, or no more of this file.
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// mkdir makes a blank directory, and its bucket when it is the first in it.
func (d *Dirs) mkdir(path string) error {
	bucket := filepath.Dir(path)
	i, err := strconv.ParseUint(filepath.Base(bucket), base, 64)
	if err != nil {
		return err
	}
	d.mu.Lock()
	made := d.made[i]
	d.mu.Unlock()
	if !made {
		if err := os.Mkdir(bucket, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		d.mu.Lock()
		d.made[i] = true
		d.mu.Unlock()
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	return d.form.Blank(path)
}

// takeLocked returns the id of a blank directory, or a new id if there is
// none, and sees to it that more are made. d.mu is held.
func (d *Dirs) takeLocked() (id uint64, blank bool) {
	if n := len(d.blank); n > 0 {
		id, blank = d.blank[n-1], true
		d.blank = d.blank[:n-1]
	} else {
		d.next++
		id = d.next
	}
	if len(d.blank) < blanks/4 && !d.busy {
		d.busy = true
		d.wg.Go(d.fill)
	}
	return id, blank
}

// fill makes blank directories until there are enough. After a failure it
// gives up: the next Prepare meets the same and can report it.
func (d *Dirs) fill() {
	for {
		d.mu.Lock()
		if len(d.blank) >= blanks {
			d.busy = false
			d.mu.Unlock()
			return
		}
		d.next++
		id := d.next
		d.mu.Unlock()
		err := d.mkdir(d.dir + "/" + place(id))
		d.mu.Lock()
		if err == nil {
			d.blank = append(d.blank, id)
		} else {
			d.busy = false
		}
		d.mu.Unlock()
		if err != nil {
			d.log.Warn("make directories ahead of time", "dir", d.dir, "error", err)
			d.trash.add(place(id))
			return
		}
	}
}

// below returns the path of r's directory below <root>/s.
func (d *Dirs) below(r *record) string { return strings.TrimPrefix(r.path, d.dir+"/") }

// chain returns the directories of the snapshot and what it lies on, top first.
func (r *record) chain() []string {
	dirs := make([]string, 0, r.depth+1)
	for ; r != nil; r = r.parent {
		dirs = append(dirs, r.path)
	}
	return dirs
}

// Root implements Snapshotter. It must not be called for an active snapshot
// that is mounted.
func (d *Dirs) Root(_ context.Context, key string) (Root, error) {
	r, err := d.get(key)
	if err != nil {
		return Root{}, err
	}
	return d.form.Mount(r.info.Kind, r.chain())
}

// Dir implements Snapshotter.
func (d *Dirs) Dir(_ context.Context, key string) (string, error) {
	r, err := d.get(key)
	if err != nil {
		return "", err
	}
	root, err := d.form.Mount(r.info.Kind, r.chain())
	if err != nil || root.Path != "" {
		return root.Path, err
	}
	return r.path + "/fs", nil
}

// Stat implements Snapshotter.
func (d *Dirs) Stat(_ context.Context, key string) (Info, error) {
	r, err := d.get(key)
	if err != nil {
		return Info{}, err
	}
	return r.info, nil
}

// Commit implements Snapshotter.
func (d *Dirs) Commit(ctx context.Context, key, active string) error {
	return d.commitOn(ctx, key, active, nil)
}

// Rebases implements Snapshotter.
func (d *Dirs) Rebases() bool { return d.form.Rebases() }

// CommitOn implements Snapshotter. The record of the active snapshot names no
// parent; that of the committed one does, and replaces it by the same rename
// that commits. So whatever a crash leaves is on disk as Prepare or Commit
// leave it, and no record names a parent that is not durable yet.
func (d *Dirs) CommitOn(ctx context.Context, key, active string, base Base) error {
	if !d.form.Rebases() {
		return errdefs.NotImplementedf("snapshot %s: this driver puts no snapshot on another parent", active)
	}
	return d.commitOn(ctx, key, active, &base)
}

// commitOn commits; with a nil base on the parent that the snapshot has.
func (d *Dirs) commitOn(ctx context.Context, key, active string, base *Base) error {
	if err := validKey(key); err != nil {
		return err
	}
	from, to, err := d.reserveCommit(key, active, base)
	if err != nil {
		return err
	}
	sp := trace.Begin(trace.File, "commit", to.path)
	if base != nil && !base.OwnTop {
		err = d.form.Create(ctx, to.path, to.parent.path)
	}
	if err == nil {
		err = d.commit(ctx, from, to)
	}
	if err := sp.End(err); err != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.byKey, key)
		if base != nil {
			to.parent.children--
		}
		from.busy = false
		return full(err)
	}
	d.mu.Lock()
	delete(d.byKey, active)
	to.busy = false
	d.mu.Unlock()
	for _, name := range d.form.Temporary() {
		d.trash.add(d.below(to) + "/" + name)
	}
	return nil
}

// reserveCommit makes the active snapshot busy and reserves its new key, and
// its place on the base, if there is one.
func (d *Dirs) reserveCommit(key, active string, base *Base) (from, to *record, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	from, err = d.getLocked(active)
	if err != nil {
		return nil, nil, err
	}
	if from.info.Kind != Active {
		return nil, nil, errdefs.Conflictf("snapshot %s is not active", active)
	}
	if d.byKey[key] != nil {
		return nil, nil, errdefs.Conflictf("snapshot %s exists already", key)
	}
	to = &record{
		info: Info{Key: key, Parent: from.info.Parent, Kind: Committed, Created: time.Now()},
		id:   from.id, path: from.path, parent: from.parent, depth: from.depth, busy: true,
	}
	if base != nil {
		if from.parent != nil {
			return nil, nil, errdefs.Conflictf("snapshot %s has a parent already", active)
		}
		if err := d.standLocked(to, base.Parent); err != nil {
			return nil, nil, err
		}
	}
	from.busy = true
	d.byKey[key] = to
	return from, to, nil
}

// commit makes the content durable, and then the record.
func (d *Dirs) commit(ctx context.Context, from, to *record) error {
	if err := d.form.Seal(ctx, to.path); err != nil {
		return err
	}
	if err := d.sync.wait(ctx); err != nil {
		return err
	}
	failpoint.Hit("snapshot.commit")
	if err := os.Rename(d.record(from), d.record(to)); err != nil {
		return err
	}
	failpoint.Hit("snapshot.committed")
	if err := atomicfile.SyncDir(d.keys); err != nil {
		return errors.Join(err, os.Rename(d.record(to), d.record(from)))
	}
	return nil
}

// Remove implements Snapshotter.
func (d *Dirs) Remove(_ context.Context, key string) error {
	d.mu.Lock()
	r, err := d.getLocked(key)
	if err == nil && r.children > 0 {
		err = errdefs.Conflictf("snapshot %s has %d snapshots on top of it", key, r.children)
	}
	if err != nil {
		d.mu.Unlock()
		return err
	}
	r.busy = true
	d.mu.Unlock()

	sp := trace.Begin(trace.File, "remove", r.path)
	if err := sp.End(os.Remove(d.record(r))); err != nil {
		d.publish(r)
		return err
	}
	failpoint.Hit("snapshot.removed")
	d.forget(r)
	d.trash.add(d.below(r))
	return nil
}

// Usage implements Snapshotter.
func (d *Dirs) Usage(ctx context.Context, key string) (Usage, error) {
	r, err := d.get(key)
	if err != nil {
		return Usage{}, err
	}
	d.mu.Lock()
	known := r.usage
	d.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	u, err := d.form.Measure(ctx, r.info.Kind, r.chain())
	if err == nil && r.info.Kind == Committed {
		d.mu.Lock()
		r.usage = &u
		d.mu.Unlock()
	}
	return u, err
}

// Limit implements Snapshotter.
func (d *Dirs) Limit(ctx context.Context, key string, bytes int64) error {
	r, err := d.get(key)
	if err != nil {
		return err
	}
	if r.info.Kind != Active {
		return errdefs.Conflictf("snapshot %s is not active", key)
	}
	if bytes <= 0 {
		return errdefs.Invalidf("a limit of %d bytes is none", bytes)
	}
	return d.form.Bound(ctx, r.path, bytes)
}

// Walk implements Snapshotter.
func (d *Dirs) Walk(context.Context) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		d.mu.Lock()
		all := make([]Info, 0, len(d.byKey))
		for _, r := range d.byKey {
			if !r.busy {
				all = append(all, r.info)
			}
		}
		d.mu.Unlock()
		for _, i := range all {
			if !yield(i, nil) {
				return
			}
		}
	}
}

// Close implements Snapshotter. It waits for files that are being deleted.
func (d *Dirs) Close() error {
	d.wg.Wait()
	d.mu.Lock()
	unused := d.blank
	d.blank = nil
	d.mu.Unlock()
	for _, id := range unused {
		d.trash.add(place(id))
	}
	return errors.Join(d.trash.close(), d.sync.close())
}

// full gives the errors of a full disk their kind.
func full(err error) error {
	if atomicfile.Full(err) {
		return errdefs.Exhaustedf("snapshot: %w", err)
	}
	return err
}
