package archive

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/moby/moby/api/types/jsonstream"
	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/content"
	"lade/internal/digest"
	"lade/internal/ids"
	"lade/internal/image"
	"lade/internal/layer"
	"lade/internal/oci"
	"lade/internal/reference"
)

// ImportOptions says what becomes of an imported root file system.
type ImportOptions struct {
	Reference string            // "" leaves the image without a name
	Message   string            // "" is "Imported from -"
	Changes   []string          // Dockerfile instructions
	Platform  *ocispec.Platform // nil: the host's
	Progress  image.Progress    // the id of the image, at the end
}

// Import makes an image of one layer from the tar of a root file system,
// compressed or not. Errors: Invalid for a bad reference, change or archive,
// DataLoss for a damaged one, Exhausted, what r returns, the context's. On
// failure nothing is left behind.
func Import(ctx context.Context, images *image.Images, r io.Reader, o ImportOptions) (img *image.Image, err error) {
	var names []reference.Reference
	if o.Reference != "" {
		if names, err = parseNames([]string{o.Reference}); err != nil {
			return nil, err
		}
	}
	config, err := importConfig(o)
	if err != nil {
		return nil, err
	}
	lease := images.Lease()
	defer func() { err = errors.Join(err, lease.Release(context.WithoutCancel(ctx))) }()
	one, err := ingestLayer(ctx, images, lease, r)
	if err != nil {
		return nil, err
	}
	layers := []image.Layer{one}
	config.RootFS.DiffIDs = []godigest.Digest{godigest.Digest(one.DiffID)}
	raw, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	if err := images.Unpack(ctx, lease, layers, image.UnpackOptions{}); err != nil {
		return nil, err
	}
	manifest, err := images.WriteManifest(ctx, lease, raw, layers)
	if err != nil {
		return nil, err
	}
	img, err = images.Add(ctx, image.Addition{Manifest: manifest, Layers: layers, Names: names})
	if err != nil {
		return nil, err
	}
	if o.Progress != nil {
		o.Progress(jsonstream.Message{Status: img.ID.String()})
	}
	return img, nil
}

func importConfig(o ImportOptions) (*oci.Image, error) {
	now := time.Now().UTC()
	if o.Message == "" {
		o.Message = "Imported from -"
	}
	c := &oci.Image{}
	c.Created = &now
	c.Platform = oci.Host()
	if o.Platform != nil {
		c.Platform = *o.Platform
	}
	c.RootFS.Type = "layers"
	c.History = []ocispec.History{{Created: &now, Comment: o.Message}}
	return c, image.Change(&c.Config, o.Changes)
}

// ingestLayer stores a tar stream as a layer, in its own compression if layers
// may have it.
func ingestLayer(ctx context.Context, images *image.Images, lease *image.Lease, r io.Reader) (l image.Layer, err error) {
	d, size, err := ingest(ctx, images, lease, r)
	if err != nil {
		return l, err
	}
	f, _, err := images.Content().Reader(d)
	if err != nil {
		return l, err
	}
	defer f.Close()
	plain, c, err := layer.Decompress(f)
	if err != nil {
		return l, err
	}
	defer plain.Close()
	var diff digest.Digest
	if c == layer.Bzip2 { // which layers may not have
		diff, size, err = ingest(ctx, images, lease, plain)
		c, d = layer.Uncompressed, diff
	} else {
		diff, _, err = digest.FromReader(content.Cancelable(ctx, plain))
	}
	if err != nil {
		return l, err
	}
	t, err := mediaType(c)
	return image.Layer{
		Blob:   ocispec.Descriptor{MediaType: t, Digest: godigest.Digest(d), Size: size},
		DiffID: digest.DiffID(diff),
	}, err
}

// ingest stores a stream as a blob.
func ingest(ctx context.Context, images *image.Images, lease *image.Lease, r io.Reader) (digest.Digest, int64, error) {
	w, err := images.Content().Writer(ctx, "import-"+ids.New(), "", -1)
	if err != nil {
		return "", 0, err
	}
	size, err := io.Copy(w, content.Cancelable(ctx, r))
	if err != nil {
		return "", 0, errors.Join(err, w.Abort())
	}
	d, err := commit(ctx, lease, w)
	return d, size, err
}

// commit makes what was written a blob. An archive is never gone on with: if
// the caller has left, what was written is of no use.
func commit(ctx context.Context, lease *image.Lease, w *content.Writer) (digest.Digest, error) {
	if err := context.Cause(ctx); err != nil {
		return "", errors.Join(err, w.Abort())
	}
	return lease.Commit(context.WithoutCancel(ctx), w)
}
