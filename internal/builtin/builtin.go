package builtin

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"io/fs"
	"sync"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/layer"
	"lade/internal/oci"
	"lade/internal/reference"
)

// Name is what the image is called.
const Name = "lade/hello:latest"

const (
	asset = "assets/userland.zst"
	label = "io.lade.builtin" // digest of the asset that the image was made of
)

//go:embed all:assets
var assets embed.FS

// Builtin provides the built-in image to one image store.
type Builtin struct {
	images *image.Images
	read   func() ([]byte, error) // the asset; fs.ErrNotExist if the build has none

	mu sync.Mutex // one Ensure at a time
}

// New returns the provider for images.
func New(images *image.Images) *Builtin {
	return &Builtin{images: images, read: func() ([]byte, error) { return assets.ReadFile(asset) }}
}

// Is reports whether ref names the built-in image.
func Is(ref reference.Reference) bool { return ref.WithDefaultTag().Familiar() == Name }

// Ensure makes the image if it is not there, or is of another build. Errors:
// NotFound if this build carries no image; Exhausted; the context's.
func (b *Builtin) Ensure(ctx context.Context) error {
	// Read now: a daemon that never needs it has no copy.
	packed, err := b.read()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errdefs.NotFoundf("No such image: %s: this build carries no built-in image; \"make\" packs it", Name)
	case err != nil:
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	ref, err := reference.ParseTagged(Name)
	if err != nil {
		return err
	}
	blob := image.Describe(ocispec.MediaTypeImageLayerZstd, packed)
	if img, err := b.images.Lookup(ref); err == nil {
		if made, ours := img.Config.Config.Labels[label]; !ours || made == string(blob.Digest) {
			return nil
		}
	}
	lease := b.images.Lease()
	err = b.add(ctx, lease, packed, blob, ref)
	return errors.Join(err, lease.Release(context.WithoutCancel(ctx)))
}

func (b *Builtin) add(ctx context.Context, lease *image.Lease, packed []byte, blob ocispec.Descriptor, ref reference.Reference) error {
	if err := lease.Hold(digest.Digest(blob.Digest)); err != nil {
		return err
	}
	if _, err := b.images.Content().WriteBlob(ctx, packed); err != nil {
		return err
	}
	diff, err := diffID(packed)
	if err != nil {
		return err
	}
	layers := []image.Layer{{Blob: blob, DiffID: diff}}
	if err := b.images.Unpack(ctx, lease, layers, image.UnpackOptions{}); err != nil {
		return err
	}
	config, err := json.Marshal(configuration(blob.Digest, diff))
	if err != nil {
		return err
	}
	manifest, err := b.images.WriteManifest(ctx, lease, config, layers)
	if err != nil {
		return err
	}
	_, err = b.images.Add(ctx, image.Addition{Manifest: manifest, Layers: layers, Names: []reference.Reference{ref}})
	return err
}

func diffID(compressed []byte) (digest.DiffID, error) {
	plain, _, err := layer.Decompress(bytes.NewReader(compressed))
	if err != nil {
		return "", err
	}
	d, _, err := digest.FromReader(plain)
	return digest.DiffID(d), errors.Join(err, plain.Close())
}

// configuration is the image's, made of constants.
func configuration(blob godigest.Digest, diff digest.DiffID) *oci.Image {
	made := time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC)
	c := &oci.Image{}
	c.Created = &made
	c.Author = "the lade project"
	c.Platform = oci.Host()
	c.Config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	c.Config.Cmd = []string{"hello"}
	c.Config.Labels = map[string]string{label: string(blob)}
	c.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []godigest.Digest{godigest.Digest(diff)}}
	c.History = []ocispec.History{
		{Created: &made, CreatedBy: "lade-userland"},
		{Created: &made, CreatedBy: `CMD ["hello"]`, EmptyLayer: true},
	}
	return c
}
