package worker

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/plugins/content/local"
	cerrdefs "github.com/containerd/errdefs"
	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/build"
	"lade/internal/digest"
)

// borrowed are the blobs and layers of laded's that the cache uses. It is a
// content store that has these blobs beside BuildKit's own. The list is a file,
// so that the next lade-build knows them.
type borrowed struct {
	content.Store // BuildKit's own
	host          *build.Host
	dir           string // of laded's blobs
	file          string
	noLinks       bool // layers are unpacked anew: this file system has no overlays of them

	// using is held for reading from the moment that laded holds something until
	// a record of the cache refers to it, and for writing while laded is told what
	// is still used.
	using sync.RWMutex

	mu    sync.Mutex
	loans map[godigest.Digest]loan // by blob
}

// loan is what is known of a borrowed blob.
type loan struct {
	Chain  digest.ChainID // of its layer
	DiffID digest.DiffID
	Dir    string // of its layer, or ""
}

// openBorrowed reads the list in file. dir is where laded's blobs are.
func openBorrowed(file, dir string, host *build.Host, own content.Store) (*borrowed, error) {
	b := &borrowed{Store: own, host: host, dir: dir, file: file, loans: map[godigest.Digest]loan{}}
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return nil, err
	}
	return b, json.Unmarshal(raw, &b.loans)
}

// add notes the layers of an image, which laded holds.
func (b *borrowed) add(layers []build.Layer) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	changed := false
	for _, l := range layers {
		if old, ok := b.loans[l.Blob.Digest]; ok && old.Dir == l.Dir {
			continue
		}
		b.loans[l.Blob.Digest] = loan{l.Chain, l.DiffID, l.Dir}
		changed = true
	}
	if !changed {
		return nil
	}
	return b.save()
}

// save writes the list. The caller holds mu. It is not synced: what a power cut
// takes of it is found missing and asked of laded again.
func (b *borrowed) save() error {
	raw, err := json.Marshal(b.loans)
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.file+".new", raw, 0o600); err != nil {
		return err
	}
	return os.Rename(b.file+".new", b.file)
}

// of returns what is known of a blob.
func (b *borrowed) of(d godigest.Digest) (loan, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, ok := b.loans[d]
	return l, ok
}

// giveBack tells laded what the cache still uses: the blobs to which a lease of
// a record refers.
func (b *borrowed) giveBack(ctx context.Context, lm leases.Manager) error {
	b.using.Lock()
	defer b.using.Unlock()
	all, err := lm.List(ctx)
	if err != nil {
		return err
	}
	used := map[godigest.Digest]bool{}
	for _, l := range all {
		list, err := lm.ListResources(ctx, l)
		if err != nil {
			return err
		}
		for _, r := range list {
			if r.Type == "content" {
				used[godigest.Digest(r.ID)] = true
			}
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var held build.Held
	for d, l := range b.loans {
		if !used[d] {
			delete(b.loans, d)
			continue
		}
		held.Blobs, held.Chains = append(held.Blobs, digest.Digest(d)), append(held.Chains, l.Chain)
	}
	if err := b.save(); err != nil {
		return err
	}
	return b.host.SetHeld(ctx, held)
}

func (b *borrowed) path(d godigest.Digest) string { return filepath.Join(b.dir, d.Encoded()) }

// Info implements content.Store.
func (b *borrowed) Info(ctx context.Context, d godigest.Digest) (content.Info, error) {
	info, err := b.Store.Info(ctx, d)
	if !cerrdefs.IsNotFound(err) {
		return info, err
	}
	l, ok := b.of(d)
	if !ok {
		return info, err
	}
	fi, e := os.Stat(b.path(d))
	if e != nil {
		return info, err
	}
	return content.Info{
		Digest: d, Size: fi.Size(), CreatedAt: fi.ModTime(), UpdatedAt: fi.ModTime(),
		Labels: map[string]string{"containerd.io/uncompressed": string(l.DiffID)},
	}, nil
}

// Update implements content.Store. What is laded's has no labels of ours.
func (b *borrowed) Update(ctx context.Context, info content.Info, fields ...string) (content.Info, error) {
	out, err := b.Store.Update(ctx, info, fields...)
	if _, ok := b.of(info.Digest); ok && cerrdefs.IsNotFound(err) {
		return b.Info(ctx, info.Digest)
	}
	return out, err
}

// ReaderAt implements content.Store.
func (b *borrowed) ReaderAt(ctx context.Context, d ocispec.Descriptor) (content.ReaderAt, error) {
	r, err := b.Store.ReaderAt(ctx, d)
	if !cerrdefs.IsNotFound(err) {
		return r, err
	}
	if _, ok := b.of(d.Digest); !ok {
		return nil, err
	}
	return local.OpenReader(b.path(d.Digest))
}
