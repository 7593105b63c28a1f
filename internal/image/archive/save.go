package archive

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/content"
	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/layer"
	"lade/internal/oci"
	"lade/internal/reference"
)

// chosen is an image to save and the names to save it under.
type chosen struct {
	image *image.Image
	names []reference.Reference
	also  []reference.Reference // names that stand for more than it: their index is saved, too
}

// Save writes images to w as one tar that is an OCI layout and a
// docker-archive. A name with a tag is saved with that tag, one without with
// all tags of the repository, an id with none. Of a name that stands for the
// images of several platforms all are saved, below their index, or those for the
// platforms that are given. The blobs are written as they
// are stored, so digests are kept; the same images give the same bytes. A layer
// in zstd is also written plain, for those who read the docker-archive: not all
// of them know zstd.
//
// Errors: NotFound, also for a platform that an image does not have; DataLoss
// for a damaged layer; what w returns, the context's.
func Save(ctx context.Context, images *image.Images, names []string, platforms []ocispec.Platform, w io.Writer) error {
	var list []chosen
	for _, name := range names {
		more, err := choose(images, name, platforms)
		if err != nil {
			return err
		}
		for _, c := range more {
			list = merge(list, c)
		}
	}
	// A lease keeps the blobs while they are copied.
	lease := images.Lease()
	defer lease.Keep()
	for _, c := range list {
		if err := lease.Hold(c.image.Blobs()...); err != nil {
			return err
		}
		for _, n := range c.also {
			d, err := images.Target(n)
			if err != nil {
				return err
			}
			if err := lease.Hold(digest.Digest(d.Digest)); err != nil {
				return err
			}
		}
	}
	s := &saver{ctx: ctx, images: images, tw: tar.NewWriter(w), written: map[string]bool{}}
	if err := s.write(list); err != nil {
		return err
	}
	if err := s.tw.Close(); err != nil {
		return err
	}
	return lease.Release(context.WithoutCancel(ctx))
}

func choose(images *image.Images, name string, platforms []ocispec.Platform) ([]chosen, error) {
	ref, err := reference.Parse(name)
	if err == nil && ref.NameOnly() {
		var out []chosen
		for _, tag := range images.Tags(ref) {
			more, err := variants(images, tag, platforms)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		}
		if len(out) > 0 {
			return out, nil
		}
	}
	img, rerr := images.Resolve(name)
	if rerr != nil {
		return nil, rerr
	}
	if err == nil && slices.Contains(img.Names, ref) {
		return variants(images, ref, platforms)
	}
	list, err := fitting([]*image.Image{img}, name, platforms)
	if err != nil {
		return nil, err
	}
	return []chosen{{image: list[0]}}, nil
}

// variants are the images that a tag stands for. The first one has the name in
// the docker-archive, which knows one image for each.
func variants(images *image.Images, tag reference.Reference, platforms []ocispec.Platform) ([]chosen, error) {
	all, err := images.Variants(tag)
	if err != nil {
		return nil, err
	}
	if all, err = fitting(all, tag.Familiar(), platforms); err != nil {
		return nil, err
	}
	out := make([]chosen, len(all))
	for i, img := range all {
		out[i] = chosen{image: img}
		if len(all) > 1 || len(img.Attested) > 0 {
			out[i].also = []reference.Reference{tag}
		}
	}
	out[0].names = []reference.Reference{tag}
	return out, nil
}

// fitting are the images for the platforms, all without any. Errors: NotFound.
func fitting(all []*image.Image, name string, platforms []ocispec.Platform) ([]*image.Image, error) {
	if len(platforms) == 0 {
		return all, nil
	}
	var out []*image.Image
	for _, p := range platforms {
		img := image.Best(all, p)
		if img == nil {
			return nil, errdefs.NotFoundf("image with reference %s was found but does not provide the specified platform (%s)", name, oci.FormatPlatform(p))
		}
		if !slices.Contains(out, img) {
			out = append(out, img)
		}
	}
	return out, nil
}

func merge(list []chosen, c chosen) []chosen {
	for i := range list {
		if list[i].image.ID == c.image.ID {
			for _, n := range c.names {
				if !slices.Contains(list[i].names, n) {
					list[i].names = append(list[i].names, n)
				}
			}
			list[i].also = append(list[i].also, c.also...)
			return list
		}
	}
	return append(list, c)
}

// saver writes one archive.
type saver struct {
	ctx     context.Context
	images  *image.Images
	tw      *tar.Writer
	written map[string]bool
}

func (s *saver) write(list []chosen) error {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	entries := []dockerEntry{}
	repositories := map[string]map[string]string{}
	indexed := map[reference.Reference]bool{}
	for _, dir := range []string{"blobs/", blobDir} {
		if err := s.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: epoch()}); err != nil {
			return err
		}
	}
	for _, c := range list {
		e := dockerEntry{Config: blobDir + c.image.ID.Hex()}
		blobs := []digest.Digest{digest.Digest(c.image.Manifest.Digest), c.image.ID}
		for _, l := range c.image.Layers {
			blobs = append(blobs, digest.Digest(l.Blob.Digest))
		}
		if len(c.also) > 0 {
			for _, a := range c.image.Attested {
				blobs = append(blobs, a.Digests()...)
			}
		}
		for _, d := range blobs {
			if err := s.blob(d); err != nil {
				return err
			}
		}
		for _, l := range c.image.Layers {
			d, err := s.readable(l)
			if err != nil {
				return err
			}
			e.Layers = append(e.Layers, blobDir+d.Hex())
		}
		for _, n := range c.names {
			e.RepoTags = append(e.RepoTags, n.Familiar())
			if !slices.Contains(c.also, n) {
				d := c.image.Manifest
				p := c.image.Platform()
				d.Platform = &p
				index.Manifests = append(index.Manifests, called(d, n))
			}
			if repositories[n.FamiliarName()] == nil {
				repositories[n.FamiliarName()] = map[string]string{}
			}
			repositories[n.FamiliarName()][n.Tag] = c.image.ID.Hex()
		}
		for _, n := range c.also {
			if indexed[n] {
				continue
			}
			indexed[n] = true
			d, err := s.images.Target(n)
			if err != nil {
				return err
			}
			if err := s.blob(digest.Digest(d.Digest)); err != nil {
				return err
			}
			index.Manifests = append(index.Manifests, called(d, n))
		}
		if len(c.names)+len(c.also) == 0 {
			index.Manifests = append(index.Manifests, c.image.Manifest)
		}
		entries = append(entries, e)
	}
	for _, doc := range []struct {
		name string
		v    any
	}{
		{ocispec.ImageIndexFile, index},
		{manifestFile, entries},
		{ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}},
		{"repositories", repositories},
	} {
		b, err := json.Marshal(doc.v)
		if err != nil {
			return err
		}
		if err := s.file(doc.name, int64(len(b)), strings.NewReader(string(b))); err != nil {
			return err
		}
	}
	return nil
}

// called is a descriptor with a name in an OCI layout.
func called(d ocispec.Descriptor, n reference.Reference) ocispec.Descriptor {
	d.Annotations = map[string]string{annotationName: n.String(), ocispec.AnnotationRefName: n.Tag}
	return d
}

// epoch is the time of every entry: an archive tells when the image was made,
// not when it was saved.
func epoch() time.Time { return time.Unix(0, 0) }

func (s *saver) blob(d digest.Digest) error {
	if s.written[string(d)] {
		return nil
	}
	s.written[string(d)] = true
	f, size, err := s.images.Content().Reader(d)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.file(blobDir+d.Hex(), size, f)
}

// readable returns the digest of the blob, which is in the archive, that any
// reader of a docker-archive can read as the layer: the layer's own, unless
// that is compressed by zstd, which Docker before 23 cannot read. Then it is
// the plain tar, under the DiffID, which is its digest.
func (s *saver) readable(l image.Layer) (digest.Digest, error) {
	stored, plain := digest.Digest(l.Blob.Digest), digest.Digest(l.DiffID)
	if s.written[string(plain)] {
		return plain, nil
	}
	r, c, err := s.open(stored)
	if err != nil || c != layer.Zstd {
		return stored, errors.Join(err, r.Close())
	}
	// The size comes before the content in a tar, so it is read twice.
	got, size, err := digest.FromReader(content.Cancelable(s.ctx, r))
	if err = errors.Join(err, r.Close()); err != nil {
		return "", err
	}
	if got != plain {
		return "", errdefs.DataLossf("layer %s: its content is %s, not %s", stored, got, plain)
	}
	if r, _, err = s.open(stored); err != nil {
		return "", errors.Join(err, r.Close())
	}
	s.written[string(plain)] = true
	return plain, errors.Join(s.file(blobDir+plain.Hex(), size, content.Cancelable(s.ctx, r)), r.Close())
}

// opened is a blob that is being decompressed. The zero value can be closed.
type opened struct {
	io.Reader
	closers []io.Closer
}

// Close ends reading.
func (o opened) Close() error {
	var errs []error
	for _, c := range o.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// open returns the plain content of a blob, and how it is compressed. The
// caller must Close it, also after an error.
func (s *saver) open(d digest.Digest) (o opened, c layer.Compression, err error) {
	f, _, err := s.images.Content().Reader(d)
	if err != nil {
		return o, c, err
	}
	plain, c, err := layer.Decompress(f)
	if err != nil {
		return opened{closers: []io.Closer{f}}, c, err
	}
	return opened{plain, []io.Closer{plain, f}}, c, nil
}

func (s *saver) file(name string, size int64, r io.Reader) error {
	if err := context.Cause(s.ctx); err != nil {
		return err
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: epoch()}
	if err := s.tw.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(s.tw, r)
	return err
}
