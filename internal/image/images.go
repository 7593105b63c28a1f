package image

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"lade/internal/content"
	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/reference"
	"lade/internal/snapshot"
	"lade/internal/store"
)

// The buckets: image id → record, reference → name, lease id → leaseRecord.
const (
	bucketImages store.Bucket = "images"
	bucketNames  store.Bucket = "names"
	bucketLeases store.Bucket = "leases"
)

// unpackers is how many layers are unpacked at the same time for each
// processor: one computes while another waits for the disk. Each takes about
// two megabytes, and what the window of its compression takes.
const unpackers = 2

// Config is what New needs.
type Config struct {
	Store       *store.Store
	Content     *content.Store
	Snapshotter snapshot.Snapshotter
	MaxLayer    int64 // bytes of a layer's plain tar; 0: no limit
	Logger      *slog.Logger
}

// Images is the set of images that the engine has.
type Images struct {
	store   *store.Store
	content *content.Store
	snap    snapshot.Snapshotter
	log     *slog.Logger
	max     int64 // bytes of a layer's plain tar; 0: no limit

	slots    *semaphore.Weighted // of layers that are being unpacked
	writing  sync.Mutex          // orders changes of records; held over their commit
	sweeping sync.RWMutex        // excludes Hold while unneeded objects are deleted

	mu        sync.RWMutex
	images    map[digest.Digest]*Image // guarded by mu, as all below
	names     map[reference.Reference]name
	leases    map[string]*leaseRecord
	uses      map[digest.Digest]time.Time    // when images were last of use
	unsaved   map[digest.Digest]bool         // of uses, what is not written yet
	unpacking map[digest.ChainID]*sync.Mutex // one unpacker for each chain
	temporary map[string]bool                // active snapshots of unpackers
}

// New reads the records. A record that is damaged is logged and left alone.
// Collect should be called soon after, when the containers are known.
func New(c Config) (*Images, error) {
	s := &Images{
		store: c.Store, content: c.Content, snap: c.Snapshotter, log: c.Logger, max: c.MaxLayer,
		images: map[digest.Digest]*Image{}, names: map[reference.Reference]name{},
		leases: map[string]*leaseRecord{}, uses: map[digest.Digest]time.Time{}, unsaved: map[digest.Digest]bool{},
		slots:     semaphore.NewWeighted(unpackers * int64(runtime.NumCPU())),
		unpacking: map[digest.ChainID]*sync.Mutex{}, temporary: map[string]bool{},
	}
	for id, b := range s.store.Walk(bucketImages) {
		img, err := decode(id, b)
		if err != nil {
			s.log.Error("image record", "image", id, "error", err)
			continue
		}
		s.images[img.ID] = img
	}
	for key, b := range s.store.Walk(bucketNames) {
		ref, err := reference.Parse(key)
		n, nerr := decodeName(b)
		n.Images = slices.DeleteFunc(n.Images, func(id digest.Digest) bool { return s.images[id] == nil })
		if err = errors.Join(err, nerr); err != nil || len(n.Images) == 0 {
			s.log.Error("image name", "name", key, "record", string(b), "error", err)
			continue
		}
		s.names[ref] = n
		for _, id := range n.Images {
			s.images[id] = s.images[id].named(ref, true)
		}
	}
	s.loadUses()
	for id, b := range s.store.Walk(bucketLeases) {
		l, err := decodeLease(b)
		if err != nil {
			s.log.Error("lease record", "lease", id, "error", err)
			continue
		}
		s.leases[id] = l
	}
	return s, nil
}

// Content returns the store of the images' blobs.
func (s *Images) Content() *content.Store { return s.content }

// Snapshotter returns where the images' layers are unpacked.
func (s *Images) Snapshotter() snapshot.Snapshotter { return s.snap }

// List returns all images, newest first.
func (s *Images) List() []*Image {
	s.mu.RLock()
	all := slices.Collect(maps.Values(s.images))
	s.mu.RUnlock()
	slices.SortFunc(all, func(a, b *Image) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	return all
}

// Get returns the image with a whole id. Errors: NotFound.
func (s *Images) Get(id digest.Digest) (*Image, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if img := s.images[id]; img != nil {
		return img, nil
	}
	return nil, errdefs.NotFoundf("No such image: %s", id)
}

// Lookup returns the image that a reference names. Errors: NotFound.
func (s *Images) Lookup(ref reference.Reference) (*Image, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if img := s.lookupLocked(ref.WithDefaultTag()); img != nil {
		return img, nil
	}
	return nil, errdefs.NotFoundf("No such image: %s", ref.WithDefaultTag().Familiar())
}

func (s *Images) lookupLocked(ref reference.Reference) *Image {
	if all := s.variantsLocked(ref); len(all) > 0 {
		return all[0]
	}
	return nil
}

// Resolve returns the image that a user means: by reference, by id or digest,
// whole or without algorithm, or by a unique prefix of an id. Errors: NotFound
// and Invalid, in Docker's words.
func (s *Images) Resolve(name string) (*Image, error) {
	img, _, err := s.resolve(name)
	return img, err
}

// resolve also tells by which reference, nil for an id.
func (s *Images) resolve(name string) (*Image, *reference.Reference, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	hex := strings.TrimPrefix(name, "sha256:")
	if d, err := digest.Parse("sha256:" + hex); err == nil {
		if img := s.byDigestLocked(d); img != nil {
			return img, nil, nil
		}
		return nil, nil, errdefs.NotFoundf("No such image: %s", d)
	}
	ref, err := reference.ParseTagged(name)
	if err == nil {
		if img := s.lookupLocked(ref); img != nil {
			return img, &ref, nil
		}
	}
	if hex != "" && strings.Trim(hex, "0123456789abcdef") == "" {
		img, perr := s.byPrefixLocked(hex)
		if img != nil || perr != nil {
			return img, nil, perr
		}
	}
	if err != nil {
		return nil, nil, err
	}
	return nil, nil, errdefs.NotFoundf("No such image: %s", ref.Familiar())
}

// byDigestLocked finds an image by its id, else by the digest of its manifest
// or index, which clients of newer engines take for the id.
func (s *Images) byDigestLocked(d digest.Digest) *Image {
	if img := s.images[d]; img != nil {
		return img
	}
	var found *Image
	for _, img := range s.images {
		if digest.Digest(img.Manifest.Digest) == d || digest.Digest(img.Target.Digest) == d {
			if found == nil || found.Added.Before(img.Added) {
				found = img
			}
		}
	}
	return found
}

func (s *Images) byPrefixLocked(hex string) (*Image, error) {
	var found *Image
	for id, img := range s.images {
		if strings.HasPrefix(id.Hex(), hex) {
			if found != nil {
				return nil, errdefs.Invalidf("multiple IDs found with provided prefix: %s", hex)
			}
			found = img
		}
	}
	return found, nil
}

// Tag gives an image a further name, which it takes from the image that has
// it. A name that stands for the images of several platforms passes on all of
// them. Errors: Invalid for a reference with a digest, NotFound.
func (s *Images) Tag(ctx context.Context, source string, ref reference.Reference) (*Image, error) {
	if ref.Digest != "" {
		return nil, errdefs.Invalidf("refusing to create a tag with a digest reference")
	}
	if ref.FamiliarName() == digest.Algorithm { // "sha256:x" is the start of an id
		return nil, errdefs.Invalidf("refusing to create an ambiguous tag using digest algorithm as name")
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	img, from, err := s.resolve(source)
	if err != nil {
		return nil, err
	}
	c := *img
	c.Tagged = time.Now().UTC()
	b, err := c.record()
	if err != nil {
		return nil, err
	}
	ref = ref.WithDefaultTag()
	s.mu.RLock()
	n := s.givenLocked(ref, img, img.Target)
	if from != nil {
		n = s.names[keyOf(*from)]
	}
	s.mu.RUnlock()
	var batch store.Batch
	batch.Put(bucketImages, string(c.ID), b)
	if err := n.put(&batch, ref); err != nil {
		return nil, err
	}
	if err := s.store.Commit(ctx, &batch); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.publishLocked(&c, map[reference.Reference]name{ref: n}), nil
}

// HistoryItem is one step of how an image came about.
type HistoryItem struct {
	ID        string // of the image, "<missing>" for steps made elsewhere
	Created   time.Time
	CreatedBy string
	Comment   string
	Size      int64    // bytes of the step's layer, unpacked
	Tags      []string // familiar
}

// History returns the steps of an image, the last one first.
func (i *Image) History() []HistoryItem {
	var out []HistoryItem
	layer := 0
	for _, h := range i.Config.History {
		item := HistoryItem{ID: "<missing>", CreatedBy: h.CreatedBy, Comment: h.Comment}
		if h.Created != nil {
			item.Created = *h.Created
		}
		if !h.EmptyLayer && layer < len(i.Layers) {
			item.Size = i.Layers[layer].Size
			layer++
		}
		out = append(out, item)
	}
	for ; layer < len(i.Layers); layer++ { // of a builder that writes no history
		out = append(out, HistoryItem{ID: "<missing>", Created: i.Created, Size: i.Layers[layer].Size})
	}
	slices.Reverse(out)
	if len(out) > 0 {
		out[0].ID = string(i.ID)
		for _, n := range i.Names {
			out[0].Tags = append(out[0].Tags, n.Familiar())
		}
	}
	return out
}
