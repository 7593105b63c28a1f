package volume

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/volume"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/ids"
	"lade/internal/layer"
	"lade/internal/linux/sys"
	"lade/internal/store"
)

// SnapshotOf is the label of a snapshot: which volume it was taken of.
const SnapshotOf = "lade.volume.snapshot-of"

// unfinished ends the name of the directory of a volume that is being filled.
const unfinished = ".new"

// Copy says what becomes of a volume's files in a new volume.
type Copy struct {
	Name     string // of the new volume
	Snapshot bool   // that nobody may change
}

// Clone makes a volume with the files, labels and size of another; what that one
// has on a device is copied, too. Content is shared where the file system can
// (reflink). It is there whole and durably or not at all, whatever happens. What
// is written meanwhile is copied or not. Errors: NotFound, Invalid for a bad
// name, Conflict for one in use, Exhausted, the context's.
func (v *Volumes) Clone(ctx context.Context, name string, c Copy) (*volume.Volume, error) {
	v.mu.Lock()
	from, ok := v.all[name]
	v.mu.Unlock()
	if !ok {
		return nil, errdefs.NotFoundf("get %s: no such volume", name)
	}
	r := record{Name: c.Name, Created: time.Now().UTC(), Labels: maps.Clone(from.Labels), ReadOnly: c.Snapshot}
	delete(r.Labels, Anonymous)
	delete(r.Labels, SnapshotOf)
	if s, err := parseOptions(from.Options); err == nil && !s.external() && from.Driver == "" {
		r.Options = from.Options
	}
	if c.Snapshot {
		if r.Labels == nil {
			r.Labels = map[string]string{}
		}
		r.Labels[SnapshotOf] = name
	}
	return v.fill(ctx, r, func(dst *os.File) error {
		return v.open(ctx, name, func(src *os.File) error { return layer.CopyTree(ctx, src, dst) })
	})
}

// Import makes a volume of a tar stream, compressed or not, whole or not at all.
// Errors: Invalid for a bad name or a stream that is no archive, Conflict for a
// name in use, DataLoss for a damaged stream, Exhausted, what r returns, the
// context's.
func (v *Volumes) Import(ctx context.Context, name string, labels map[string]string, r io.Reader) (*volume.Volume, error) {
	return v.fill(ctx, record{Name: name, Created: time.Now().UTC(), Labels: labels}, func(dst *os.File) error {
		plain, _, err := layer.Decompress(r)
		if err != nil {
			return err
		}
		defer plain.Close()
		return layer.Unpack(ctx, dst, "/", plain, layer.UnpackOptions{})
	})
}

// Export writes the files of a volume as a tar, not compressed, with names
// relative to its top. Errors: NotFound, what w returns, the context's.
func (v *Volumes) Export(ctx context.Context, name string, w io.Writer) error {
	return v.open(ctx, name, func(src *os.File) error {
		return layer.Pack(ctx, src, "/", layer.PackOptions{Contents: true}, w)
	})
}

// open calls f with the directory of a volume's files, mounted meanwhile.
func (v *Volumes) open(ctx context.Context, name string, f func(*os.File) error) error {
	who := "copy-" + ids.New()
	if err := v.Mount(ctx, name, who); err != nil {
		return err
	}
	defer v.Unmount(name, who)
	d, err := os.Open(v.Path(name))
	if err != nil {
		return err
	}
	defer d.Close()
	return f(d)
}

// fill makes a volume, whose directory is filled by f, in this order: directory
// under another name, files, sync, the right name, record. A crash before the
// record leaves a directory that New clears.
func (v *Volumes) fill(ctx context.Context, r record, f func(dst *os.File) error) (_ *volume.Volume, err error) {
	if err := checkName(r.Name); err != nil {
		return nil, err
	}
	s, err := parseOptions(r.Options)
	if err != nil {
		return nil, err
	}
	free, err := v.reserve(r.Name)
	if err != nil {
		return nil, err
	}
	defer free()
	work := filepath.Join(v.dir, ids.New()+unfinished)
	dir := filepath.Join(v.dir, r.Name)
	defer func() {
		if err != nil {
			err = errors.Join(err, v.clear(work), v.clear(dir))
		}
	}()
	if err := v.makeData(filepath.Join(work, data), s); err != nil {
		return nil, err
	}
	dst, err := os.Open(filepath.Join(work, data))
	if err != nil {
		return nil, err
	}
	defer dst.Close()
	if err := f(dst); err != nil {
		return nil, err
	}
	if err := unix.Syncfs(int(dst.Fd())); err != nil {
		return nil, sys.Error("syncfs", work, err)
	}
	if err := os.Rename(work, dir); err != nil {
		return nil, err
	}
	failpoint.Hit("volume.filled")
	var b store.Batch
	if err := put(&b, r); err != nil {
		return nil, err
	}
	if err := v.store.Commit(context.WithoutCancel(ctx), &b); err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.all[r.Name] = r
	return v.show(r), nil
}

// reserve keeps a name that no volume has for the caller, until free. Errors:
// Conflict.
func (v *Volumes) reserve(name string) (free func(), err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, exists := v.all[name]; exists || v.busy[name] {
		return nil, errdefs.Conflictf("a volume named %s already exists", name)
	}
	v.busy[name] = true
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.busy, name)
	}, nil
}

// Rename gives a volume that nobody uses another name; an anonymous one is not
// anonymous any more. Errors: NotFound, Invalid for a bad name, Conflict for one
// in use and for a volume in use.
//
// The record changes first and remembers the old name until the directory has
// followed: New finishes what a crash cut off.
func (v *Volumes) Rename(ctx context.Context, name, to string) (*volume.Volume, error) {
	if err := checkName(to); err != nil {
		return nil, err
	}
	free, err := v.reserve(to)
	if err != nil {
		return nil, err
	}
	defer free()
	old, err := v.withdraw(name)
	if err != nil {
		return nil, err
	}
	r := old
	r.Name, r.From = to, name
	r.Labels = maps.Clone(r.Labels)
	delete(r.Labels, Anonymous)
	settle := func(r record) {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.busy, name)
		delete(v.mounts, name)
		v.all[r.Name] = r
	}
	var b store.Batch
	b.Delete(bucket, name)
	if err = put(&b, r); err == nil {
		err = v.store.Commit(context.WithoutCancel(ctx), &b)
	}
	if err != nil {
		settle(old)
		return nil, err
	}
	failpoint.Hit("volume.renamed")
	if err := os.Rename(filepath.Join(v.dir, name), filepath.Join(v.dir, to)); err != nil {
		var back store.Batch
		back.Delete(bucket, to)
		err = errors.Join(err, put(&back, old), v.store.Commit(context.WithoutCancel(ctx), &back))
		settle(old)
		return nil, err
	}
	r.From = ""
	var done store.Batch
	if err := put(&done, r); err != nil {
		return nil, err
	}
	settle(r)
	return v.show(r), v.store.Append(&done)
}

// withdraw takes a volume that nobody uses out of sight, its name kept. Errors:
// NotFound, Conflict.
func (v *Volumes) withdraw(name string) (record, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	r, ok := v.all[name]
	if !ok {
		return r, errdefs.NotFoundf("get %s: no such volume", name)
	}
	if r.Driver != "" {
		return r, errdefs.Conflictf("rename %s: a volume has the name that the driver %s knows it by", name, r.Driver)
	}
	if users := slices.Sorted(maps.Keys(v.refs[name])); len(users) > 0 {
		return r, errdefs.Conflictf("rename %s: volume is in use - [%s]", name, strings.Join(users, ", "))
	}
	if m := v.mounts[name]; m != nil && len(m.turn)+len(m.users) > 0 || v.unsaved[name] {
		return r, errdefs.Conflictf("rename %s: volume is in use", name)
	}
	delete(v.all, name)
	v.busy[name] = true
	return r, nil
}

// followNames finishes renames that were cut off.
func (v *Volumes) followNames() error {
	for name, r := range v.all {
		if r.From == "" {
			continue
		}
		_, err := os.Lstat(filepath.Join(v.dir, name))
		_, taken := v.all[r.From]
		if errors.Is(err, os.ErrNotExist) && !taken {
			err = os.Rename(filepath.Join(v.dir, r.From), filepath.Join(v.dir, name))
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		r.From = ""
		v.all[name] = r
		var b store.Batch
		if err := put(&b, r); err != nil {
			return err
		}
		if err := v.store.Append(&b); err != nil {
			return err
		}
	}
	return nil
}
