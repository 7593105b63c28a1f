package archive

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/jsonstream"
	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/content"
	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/ids"
	"lade/internal/image"
	"lade/internal/layer"
	"lade/internal/oci"
	"lade/internal/reference"
)

// Limits of an archive.
const (
	maxDocument  = oci.MaxConfig // bytes of one document
	maxDocuments = 64 << 20      // bytes of all documents
	maxEntries   = 100_000
	maxLinks     = 16 // links to links
)

const (
	manifestFile = "manifest.json"
	blobDir      = "blobs/sha256/"

	annotationName = "io.containerd.image.name"
)

// LoadOptions changes what Load does.
type LoadOptions struct {
	Platforms []ocispec.Platform // to take; none: all that the archive holds
	Progress  image.Progress     // "Loading layer" and "Loaded image: …"
	// Held are blobs that the archive may leave out because they are here. Of an
	// index the images whose blobs are neither are passed over.
	Held []digest.Digest
	// Added is told of each image, after it was added. May be nil.
	Added func(*image.Image)
}

// dockerEntry is one image in manifest.json.
type dockerEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// blob is an entry that went into the content store.
type blob struct {
	digest digest.Digest
	size   int64
}

// loader holds what an archive has brought so far.
type loader struct {
	images   *image.Images
	lease    *image.Lease
	progress image.Progress
	wanted   []ocispec.Platform
	told     map[reference.Reference]bool // names that the client has heard of

	documents map[string][]byte
	blobs     map[string]blob
	links     map[string]string
	attested  map[godigest.Digest][]image.Attestation // by the manifest that they are for
	total     int                                     // bytes of documents
	entries   int
	added     func(*image.Image)
}

// pending is an image of the archive whose blobs are in the content store.
type pending struct {
	manifest, target ocispec.Descriptor
	platform         ocispec.Platform
	layers           []image.Layer
	names            []reference.Reference
}

// Load adds the images of a tar stream. It reads r to its end unless it fails.
//
// Errors: Invalid for an archive that is not one of the layouts, is cut off or
// contradicts itself, DataLoss for content that is not what its digest says,
// Exhausted, what r returns, the context's. Images that were complete before
// the failure stay; of the others nothing does.
func Load(ctx context.Context, images *image.Images, r io.Reader, o LoadOptions) (err error) {
	l := &loader{
		images: images, lease: images.Lease(), progress: image.Ordered(o.Progress), wanted: o.Platforms, told: map[reference.Reference]bool{},
		documents: map[string][]byte{}, blobs: map[string]blob{}, links: map[string]string{}, attested: map[godigest.Digest][]image.Attestation{}, added: o.Added,
	}
	defer func() { err = errors.Join(err, l.lease.Release(context.WithoutCancel(ctx))) }()
	if err := l.have(o.Held); err != nil {
		return err
	}
	if err := l.read(ctx, r); err != nil {
		return err
	}
	found, err := l.describe(ctx)
	if err == nil {
		found, err = l.fitting(found)
	}
	if err != nil {
		return err
	}
	for _, p := range found {
		if err := l.add(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// have takes blobs that are here for such as the archive has brought.
func (l *loader) have(held []digest.Digest) error {
	if err := l.lease.Hold(held...); err != nil {
		return err
	}
	for _, d := range held {
		n, err := l.images.Content().Stat(d)
		if err != nil {
			return err
		}
		l.blobs[blobDir+d.Hex()] = blob{d, n}
	}
	return nil
}

// read takes in the whole stream.
func (l *loader) read(ctx context.Context, r io.Reader) error {
	plain, _, err := layer.Decompress(r)
	if err != nil {
		return err
	}
	defer plain.Close()
	tr := tar.NewReader(plain)
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return broken(err)
		}
		if l.entries++; l.entries > maxEntries {
			return errdefs.Invalidf("invalid archive: more than %d entries", maxEntries)
		}
		if err := l.entry(ctx, h, tr); err != nil {
			return broken(err)
		}
	}
	// The end of the compressed stream carries its checksum.
	_, err = io.Copy(io.Discard, plain)
	return broken(err)
}

// broken gives the errors of the tar reader their kind.
func broken(err error) error {
	if errdefs.KindOf(err) == errdefs.Internal && (errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrHeader)) {
		return errdefs.Invalidf("invalid archive: %w", err)
	}
	return err
}

func (l *loader) entry(ctx context.Context, h *tar.Header, r io.Reader) error {
	name := path.Clean(h.Name)
	if !filepath.IsLocal(name) {
		return errdefs.Invalidf("invalid archive: the entry %q is outside of it", h.Name)
	}
	switch h.Typeflag {
	case tar.TypeDir, tar.TypeXGlobalHeader:
		return nil
	case tar.TypeSymlink, tar.TypeLink:
		to := h.Linkname
		if h.Typeflag == tar.TypeSymlink && !path.IsAbs(to) {
			to = path.Join(path.Dir(name), to)
		}
		if to = path.Clean(to); !filepath.IsLocal(to) {
			return errdefs.Invalidf("invalid archive: the link %q leads outside of it, to %q", h.Name, h.Linkname)
		}
		l.links[name] = to
		return nil
	case tar.TypeReg:
	default:
		return errdefs.Invalidf("invalid archive: the entry %q is of type %q", h.Name, h.Typeflag)
	}
	if isDocument(name) && h.Size <= maxDocument {
		if l.total += int(h.Size); l.total > maxDocuments {
			return errdefs.Invalidf("invalid archive: more than %d bytes of documents", maxDocuments)
		}
		b, err := io.ReadAll(r)
		l.documents[name] = b
		return err
	}
	return l.ingest(ctx, name, h.Size, r)
}

// isDocument tells documents from layers by their names.
func isDocument(name string) bool {
	return strings.HasSuffix(name, ".json") || slices.Contains([]string{"json", "repositories", "oci-layout", "VERSION"}, path.Base(name))
}

// ingest stores an entry as a blob; one of an OCI layout must be what its name
// says, and is skipped when it is there already.
func (l *loader) ingest(ctx context.Context, name string, size int64, r io.Reader) error {
	var want digest.Digest
	if hex, ok := strings.CutPrefix(name, blobDir); ok {
		d, err := digest.Parse("sha256:" + hex)
		if err != nil {
			return errdefs.Invalidf("invalid archive: %q: %w", name, err)
		}
		if err := l.lease.Hold(d); err != nil {
			return err
		}
		if n, err := l.images.Content().Stat(d); err == nil && n == size {
			l.blobs[name] = blob{d, size}
			return nil
		}
		want = d
	}
	w, err := l.images.Content().Writer(ctx, "load-"+ids.New(), want, size)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, content.Cancelable(ctx, r)); err != nil {
		return errors.Join(err, w.Abort())
	}
	d, err := commit(ctx, l.lease, w)
	if err != nil {
		return err
	}
	l.blobs[name] = blob{d, size}
	return nil
}

// follow returns the entry that a name stands for after its links.
func (l *loader) follow(name string) string {
	name = path.Clean(name)
	for range maxLinks {
		to, ok := l.links[name]
		if !ok {
			return name
		}
		name = to
	}
	return name
}

// document returns the bytes of a small entry.
func (l *loader) document(name string) ([]byte, error) {
	name = l.follow(name)
	if b, ok := l.documents[name]; ok {
		return b, nil
	}
	if b, ok := l.blobs[name]; ok {
		return l.images.ReadBlob(b.digest, maxDocument)
	}
	return nil, errdefs.Invalidf("invalid archive: %q is missing", name)
}

// describe finds out which images the archive holds.
func (l *loader) describe(ctx context.Context) ([]*pending, error) {
	var entries []dockerEntry
	raw, docker := l.documents[l.follow(manifestFile)]
	if docker {
		if err := json.Unmarshal(raw, &entries); err != nil {
			return nil, errdefs.Invalidf("invalid archive: %s: %w", manifestFile, err)
		}
	}
	if index, ok := l.documents[l.follow(ocispec.ImageIndexFile)]; ok {
		return l.describeOCI(index, entries)
	}
	if !docker {
		return nil, errdefs.Invalidf("unrecognized image format: the archive has neither %s nor %s", manifestFile, ocispec.ImageIndexFile)
	}
	out := make([]*pending, 0, len(entries))
	for _, e := range entries {
		p, err := l.describeDocker(ctx, e)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// describeDocker makes a manifest for an image that comes without one.
func (l *loader) describeDocker(ctx context.Context, e dockerEntry) (*pending, error) {
	config, err := l.document(e.Config)
	if err != nil {
		return nil, err
	}
	c, diffs, err := oci.ParseImage(config)
	if err != nil {
		return nil, err
	}
	if len(diffs) != len(e.Layers) {
		return nil, errdefs.Invalidf("invalid manifest, layers length mismatch: expected %d, got %d", len(diffs), len(e.Layers))
	}
	p := &pending{platform: c.Platform}
	for i, name := range e.Layers {
		b, ok := l.blobs[l.follow(name)]
		if !ok {
			return nil, errdefs.Invalidf("invalid archive: the layer %q is missing", name)
		}
		t, err := l.layerType(b.digest)
		if err != nil {
			return nil, err
		}
		p.layers = append(p.layers, image.Layer{
			Blob:   ocispec.Descriptor{MediaType: t, Digest: godigest.Digest(b.digest), Size: b.size},
			DiffID: diffs[i],
		})
	}
	if p.names, err = parseNames(e.RepoTags); err != nil {
		return nil, err
	}
	p.manifest, err = l.images.WriteManifest(ctx, l.lease, config, p.layers)
	p.target = p.manifest
	return p, err
}

func parseNames(list []string) ([]reference.Reference, error) {
	var out []reference.Reference
	for _, s := range list {
		ref, err := reference.ParseTagged(s)
		if err != nil {
			return nil, errdefs.Invalidf("invalid tag %q: %w", s, err)
		}
		if ref.Digest != "" {
			return nil, errdefs.Invalidf("invalid tag %q", s)
		}
		if !slices.Contains(out, ref) {
			out = append(out, ref)
		}
	}
	return out, nil
}

// layerType finds out the media type of a stored layer.
func (l *loader) layerType(d digest.Digest) (string, error) {
	f, _, err := l.images.Content().Reader(d)
	if err != nil {
		return "", err
	}
	defer f.Close()
	plain, c, err := layer.Decompress(f)
	if err != nil {
		return "", err
	}
	defer plain.Close()
	return mediaType(c)
}

func mediaType(c layer.Compression) (string, error) {
	switch c {
	case layer.Uncompressed:
		return ocispec.MediaTypeImageLayer, nil
	case layer.Gzip:
		return ocispec.MediaTypeImageLayerGzip, nil
	case layer.Zstd:
		return ocispec.MediaTypeImageLayerZstd, nil
	}
	return "", errdefs.NotImplementedf("layers compressed by %s are not supported", c)
}

// describeOCI reads the index of an OCI layout; manifest.json, if there is
// one, adds names.
func (l *loader) describeOCI(raw []byte, entries []dockerEntry) ([]*pending, error) {
	ix, err := oci.ParseIndex(raw)
	if err != nil {
		return nil, err
	}
	var out []*pending
	byTarget := map[godigest.Digest][]*pending{}
	for _, d := range ix.Manifests {
		if oci.References(d) {
			l.attestation(d)
			continue
		}
		group, ok := byTarget[d.Digest]
		if !ok {
			if group, err = l.resolve(d); err != nil {
				return nil, err
			}
			byTarget[d.Digest] = group
			out = append(out, group...)
		}
		for _, p := range group {
			names, err := parseNames(append(annotated(d), l.alsoNamed(p, entries)...))
			if err != nil {
				return nil, err
			}
			for _, n := range names {
				if !slices.Contains(p.names, n) {
					p.names = append(p.names, n)
				}
			}
		}
	}
	if len(out) == 0 {
		return nil, errdefs.Invalidf("unrecognized image format: the archive holds no image")
	}
	return out, nil
}

// fitting are the images for the wanted platforms. Errors: NotFound.
func (l *loader) fitting(found []*pending) ([]*pending, error) {
	if len(l.wanted) == 0 {
		return found, nil
	}
	var out []*pending
	for _, want := range l.wanted {
		n := len(out)
		for _, p := range found {
			if oci.Rank(want, p.platform) == 0 && !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
		if len(out) == n {
			return nil, errdefs.NotFoundf("the archive does not provide the specified platform (%s)", oci.FormatPlatform(want))
		}
	}
	return out, nil
}

// annotated returns the name that a descriptor of the index carries. The
// standard annotation is often only a tag, which names nothing by itself.
func annotated(d ocispec.Descriptor) []string {
	if n := d.Annotations[annotationName]; n != "" {
		return []string{n}
	}
	if n := d.Annotations[ocispec.AnnotationRefName]; strings.ContainsAny(n, ":/") {
		return []string{n}
	}
	return nil
}

// alsoNamed returns the tags that manifest.json gives the image.
func (l *loader) alsoNamed(p *pending, entries []dockerEntry) []string {
	var out []string
	for _, e := range entries {
		if b, ok := l.blobs[l.follow(e.Config)]; ok && slices.Contains(p.configs(l), b.digest) {
			out = append(out, e.RepoTags...)
		}
	}
	return out
}

func (p *pending) configs(l *loader) []digest.Digest {
	raw, err := l.images.ReadBlob(digest.Digest(p.manifest.Digest), oci.MaxManifest)
	if err != nil {
		return nil
	}
	m, err := oci.ParseManifest(raw)
	if err != nil {
		return nil
	}
	return []digest.Digest{digest.Digest(m.Config.Digest)}
}

// resolve reads what a descriptor of the layout stands for: an image, or those
// images of an index, and of indexes in it, that the archive holds whole.
func (l *loader) resolve(target ocispec.Descriptor) ([]*pending, error) {
	var out []*pending
	err := l.walk(bare(target), 0, map[godigest.Digest]bool{}, func(d ocispec.Descriptor, raw []byte) error {
		p, err := l.manifest(d, bare(target), raw)
		if err == nil {
			out = append(out, p)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// maxDepth is how deep indexes may be in indexes.
const maxDepth = 4

// walk calls found for the manifests below a descriptor, for each once: an index
// of indexes could name one more often than anybody can count. A manifest of an
// index that cannot be used is passed over if another can be.
func (l *loader) walk(d ocispec.Descriptor, depth int, seen map[godigest.Digest]bool, found func(ocispec.Descriptor, []byte) error) error {
	if depth == maxDepth {
		return errdefs.Invalidf("invalid archive: indexes in indexes")
	}
	raw, err := l.document(blobDir + digest.Digest(d.Digest).Hex())
	if err != nil {
		return err
	}
	if d.MediaType, err = oci.MediaType(raw, d.MediaType); err != nil {
		return err
	}
	if d.Size != int64(len(raw)) {
		return errdefs.Invalidf("invalid archive: %s has %d bytes, its descriptor says %d", d.Digest, len(raw), d.Size)
	}
	if oci.IsManifest(d.MediaType) {
		return found(d, raw)
	}
	ix, err := oci.ParseIndex(raw)
	if err != nil {
		return err
	}
	usable := false
	var bad error
	for _, m := range ix.Manifests {
		if _, ok := l.blobs[blobDir+digest.Digest(m.Digest).Hex()]; !ok || seen[m.Digest] {
			continue
		}
		seen[m.Digest] = true
		if oci.References(m) {
			l.attestation(m)
			continue
		}
		if err := l.walk(bare(m), depth+1, seen, found); err != nil {
			bad = err
		} else {
			usable = true
		}
	}
	switch {
	case usable:
		return nil
	case bad != nil:
		return bad
	}
	return errdefs.Invalidf("invalid archive: it holds no image of the index %s", d.Digest)
}

// attestation notes what an entry of an index says about an image, if the archive
// has all of it.
func (l *loader) attestation(d ocispec.Descriptor) {
	of := godigest.Digest(oci.Attests(d))
	raw, err := l.document(blobDir + digest.Digest(d.Digest).Hex())
	if of == "" || err != nil {
		return
	}
	m, err := oci.ParseAttestation(raw)
	if err != nil {
		return
	}
	a := image.Attestation{Manifest: image.Describe(d.MediaType, raw), Config: m.Config, Statements: m.Layers}
	for _, b := range a.Digests() {
		if _, ok := l.blobs[blobDir+b.Hex()]; !ok {
			return
		}
	}
	if !slices.ContainsFunc(l.attested[of], func(o image.Attestation) bool { return o.Manifest.Digest == a.Manifest.Digest }) {
		l.attested[of] = append(l.attested[of], a)
	}
}

// bare returns a descriptor without what only its index says of it.
func bare(d ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

func (l *loader) manifest(d, target ocispec.Descriptor, raw []byte) (*pending, error) {
	m, err := oci.ParseManifest(raw)
	if err != nil {
		return nil, err
	}
	config, err := l.document(blobDir + digest.Digest(m.Config.Digest).Hex())
	if err != nil {
		return nil, err
	}
	c, diffs, err := oci.ParseImage(config)
	if err != nil {
		return nil, err
	}
	if len(diffs) != len(m.Layers) {
		return nil, errdefs.Invalidf("invalid manifest, layers length mismatch: expected %d, got %d", len(diffs), len(m.Layers))
	}
	if target.Digest == d.Digest {
		target = d
	}
	p := &pending{manifest: d, target: target, platform: c.Platform}
	for i, desc := range m.Layers {
		b, ok := l.blobs[l.follow(blobDir+digest.Digest(desc.Digest).Hex())]
		switch {
		case !ok:
			return nil, errdefs.Invalidf("invalid archive: the layer %s is missing", desc.Digest)
		case b.size != desc.Size:
			return nil, errdefs.Invalidf("invalid archive: the layer %s has %d bytes, its descriptor says %d", desc.Digest, b.size, desc.Size)
		}
		p.layers = append(p.layers, image.Layer{Blob: desc, DiffID: diffs[i]})
	}
	return p, nil
}

// add unpacks an image, adds it and says so.
func (l *loader) add(ctx context.Context, p *pending) error {
	id := func(i int) string { return digest.Digest(p.layers[i].DiffID).Short() }
	throttles := image.NewThrottles(len(p.layers))
	err := l.images.Unpack(ctx, l.lease, p.layers, image.UnpackOptions{
		Progress: func(i int, done int64) {
			if total := p.layers[i].Blob.Size; throttles[i].Pass(done == total) {
				l.progress(jsonstream.Message{Status: "Loading layer", ID: id(i),
					Progress: &jsonstream.Progress{Current: done, Total: total}})
			}
		},
	})
	if err != nil {
		return err
	}
	img, err := l.images.Add(ctx, image.Addition{
		Manifest: p.manifest, Target: p.target, Layers: p.layers, Names: p.names, Attested: l.attested[p.manifest.Digest],
	})
	if err != nil {
		return err
	}
	if l.added != nil {
		l.added(img)
	}
	for _, n := range p.names {
		if l.told[n] {
			continue
		}
		l.told[n] = true
		l.progress(jsonstream.Message{Stream: "Loaded image: " + n.Familiar() + "\n"})
	}
	if len(p.names) == 0 {
		l.progress(jsonstream.Message{Stream: "Loaded image ID: " + img.ID.String() + "\n"})
	}
	return nil
}
