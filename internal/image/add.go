package image

import (
	"context"
	"encoding/json"
	"io"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/oci"
	"lade/internal/reference"
	"lade/internal/store"
)

// Addition is an image whose blobs and snapshots are there.
type Addition struct {
	Manifest ocispec.Descriptor
	Target   ocispec.Descriptor // zero: the manifest
	Layers   []Layer            // as Unpack left them
	Names    []reference.Reference
	Parent   digest.Digest // image it was made from here, or ""
	Attested []Attestation // whose blobs are there
}

// Add makes an image of what is there, under a lease that the caller holds, and
// gives it its names, durably and in one batch. An image that exists gets the
// names and the new manifest. Errors: Invalid for documents that contradict
// each other, NotFound for a missing blob or snapshot.
func (s *Images) Add(ctx context.Context, a Addition) (*Image, error) {
	raw, err := s.ReadBlob(digest.Digest(a.Manifest.Digest), oci.MaxManifest)
	if err != nil {
		return nil, err
	}
	m, err := oci.ParseManifest(raw)
	if err != nil {
		return nil, err
	}
	config, err := s.ReadBlob(digest.Digest(m.Config.Digest), oci.MaxConfig)
	if err != nil {
		return nil, err
	}
	if a.Target.Digest == "" {
		a.Target = a.Manifest
	}
	now := time.Now().UTC()
	img, err := build(digest.Digest(m.Config.Digest), record{a.Manifest, a.Target, a.Layers, now, now, a.Parent, a.Attested, config})
	if err != nil {
		return nil, err
	}
	for i, c := range img.ChainIDs {
		if _, err := s.snap.Stat(ctx, SnapshotKey(c)); err != nil {
			return nil, err
		}
		if _, err := s.content.Stat(digest.Digest(img.Layers[i].Blob.Digest)); err != nil {
			return nil, err
		}
	}
	return s.add(ctx, img, a.Names)
}

func (s *Images) add(ctx context.Context, img *Image, names []reference.Reference) (*Image, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.RLock()
	old := s.images[img.ID]
	s.mu.RUnlock()
	if old != nil {
		img.Names, img.Digests, img.Added = old.Names, old.Digests, old.Added
		if img.Parent == "" {
			img.Parent = old.Parent
		}
		if len(names) == 0 {
			img.Tagged = old.Tagged
		}
		if len(img.Attested) == 0 && img.Manifest.Digest == old.Manifest.Digest {
			img.Attested = old.Attested // it came again without them
		}
	}
	b, err := img.record()
	if err != nil {
		return nil, err
	}
	var batch store.Batch
	batch.Put(bucketImages, string(img.ID), b)
	given, before, err := s.give(&batch, img, names)
	if err != nil {
		return nil, err
	}
	failpoint.Hit("image.add")
	if err := s.store.Commit(ctx, &batch); err != nil {
		return nil, err
	}
	failpoint.Hit("image.added")
	s.mu.Lock()
	img = s.publishLocked(img, given)
	s.mu.Unlock()
	if old != nil {
		before = append(before, old.Blobs()...)
	}
	// Another manifest may have come for the same image, another index for a
	// name. Failing to delete the old one is not the caller's trouble: Collect
	// comes by.
	if _, err := s.sweep(context.WithoutCancel(ctx), before, nil); err != nil {
		s.log.Warn("sweep after adding an image", "image", img.ID, "error", err)
	}
	return img, nil
}

// give puts into a batch what names stand for once the image has them. It also
// returns what the targets of the names were before. The caller holds writing.
func (s *Images) give(batch *store.Batch, img *Image, refs []reference.Reference) (given map[reference.Reference]name, before []digest.Digest, err error) {
	given = map[reference.Reference]name{}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, ref := range refs {
		ref = ref.WithDefaultTag()
		n := s.givenLocked(ref, img, img.Target)
		if old := digest.Digest(s.names[ref].Target.Digest); old != "" && old != digest.Digest(n.Target.Digest) {
			before = append(before, old)
		}
		if err := n.put(batch, ref); err != nil {
			return nil, nil, err
		}
		given[ref] = n
	}
	return given, before, nil
}

// ReadBlob returns a whole blob of at most limit bytes. Errors: NotFound,
// Invalid for a longer one.
func (s *Images) ReadBlob(d digest.Digest, limit int64) ([]byte, error) {
	f, size, err := s.content.Reader(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > limit {
		return nil, errdefs.Invalidf("content %s: %d bytes are more than the %d that are allowed here", d, size, limit)
	}
	b := make([]byte, size)
	_, err = io.ReadFull(f, b)
	return b, err
}

// WriteManifest stores a configuration and an OCI manifest of it and of
// layers, under the lease, and returns the manifest's descriptor.
func (s *Images) WriteManifest(ctx context.Context, l *Lease, config []byte, layers []Layer) (ocispec.Descriptor, error) {
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    Describe(ocispec.MediaTypeImageConfig, config),
		Layers:    make([]ocispec.Descriptor, 0, len(layers)),
	}
	for _, layer := range layers {
		m.Layers = append(m.Layers, layer.Blob)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := Describe(ocispec.MediaTypeImageManifest, raw)
	if err := l.Hold(digest.Digest(m.Config.Digest), digest.Digest(d.Digest)); err != nil {
		return ocispec.Descriptor{}, err
	}
	for _, b := range [][]byte{config, raw} {
		if _, err := s.content.WriteBlob(ctx, b); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	return d, nil
}

// Describe returns the descriptor of b.
func Describe(mediaType string, b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: godigest.Digest(digest.FromBytes(b)), Size: int64(len(b))}
}
