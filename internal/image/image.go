package image

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/oci"
	"lade/internal/reference"
)

// Progress receives what a long operation tells its client. It is called by
// one goroutine at a time. A nil Progress is allowed where one is taken.
type Progress func(jsonstream.Message)

// Layer is one layer of an image.
type Layer struct {
	Blob   ocispec.Descriptor // as stored, compressed or not
	DiffID digest.DiffID
	Size   int64 // bytes on disk when unpacked
}

// Attestation is a manifest of statements about an image, such as how it was
// built and what it contains. It travels with the index that lists both.
type Attestation struct {
	Manifest   ocispec.Descriptor
	Config     ocispec.Descriptor
	Statements []ocispec.Descriptor
}

// Digests returns the digests of all that is stored for it.
func (a *Attestation) Digests() []digest.Digest {
	out := []digest.Digest{digest.Digest(a.Manifest.Digest), digest.Digest(a.Config.Digest)}
	for _, d := range a.Statements {
		out = append(out, digest.Digest(d.Digest))
	}
	return out
}

// Size returns the bytes of all that is stored for it.
func (a *Attestation) Size() int64 {
	n := a.Manifest.Size + a.Config.Size
	for _, d := range a.Statements {
		n += d.Size
	}
	return n
}

// Image is an image that the engine has. It is immutable: a changed image is a
// new one, so a holder keeps what it has seen.
type Image struct {
	ID       digest.Digest // of the configuration
	Config   *oci.Image
	Layers   []Layer          // bottom first
	ChainIDs []digest.ChainID // of the layers up to each
	Manifest ocispec.Descriptor
	Target   ocispec.Descriptor // what the name stood for in the registry: an index, or the manifest
	Size     int64              // bytes of all layers, unpacked
	Created  time.Time          // zero if the configuration does not say
	Added    time.Time
	Tagged   time.Time             // last time a name was given
	Parent   digest.Digest         // image it was made from here, or ""
	Attested []Attestation         // what its index says about it, as far as it is here
	Names    []reference.Reference // with tags, sorted
	Digests  []reference.Reference // with digests, sorted
}

// Top returns the key of the snapshot with all layers, "" without layers.
func (i *Image) Top() string {
	if len(i.ChainIDs) == 0 {
		return ""
	}
	return SnapshotKey(i.ChainIDs[len(i.ChainIDs)-1])
}

// Platform returns what the image runs on.
func (i *Image) Platform() ocispec.Platform { return oci.Normalize(i.Config.Platform) }

// Blobs returns the digests of everything that is stored for the image:
// target, manifest, configuration, layers, attestations, each once, sorted.
func (i *Image) Blobs() []digest.Digest {
	all := []digest.Digest{digest.Digest(i.Target.Digest), digest.Digest(i.Manifest.Digest), i.ID}
	for _, l := range i.Layers {
		all = append(all, digest.Digest(l.Blob.Digest))
	}
	for _, a := range i.Attested {
		all = append(all, a.Digests()...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// SnapshotKey returns the key under which a stack of layers is committed.
func SnapshotKey(c digest.ChainID) string { return digest.Digest(c).Hex() }

// DiffIDs returns the DiffIDs of layers.
func DiffIDs(layers []Layer) []digest.DiffID {
	out := make([]digest.DiffID, len(layers))
	for i, l := range layers {
		out[i] = l.DiffID
	}
	return out
}

// record is an image as it is stored, under its id.
type record struct {
	Manifest ocispec.Descriptor
	Target   ocispec.Descriptor
	Layers   []Layer
	Added    time.Time
	Tagged   time.Time
	Parent   digest.Digest   `json:",omitempty"`
	Attested []Attestation   `json:",omitempty"`
	Config   json.RawMessage // so that start-up reads no blobs
}

func (i *Image) record() ([]byte, error) {
	config, err := json.Marshal(i.Config)
	if err != nil {
		return nil, err
	}
	return json.Marshal(record{i.Manifest, i.Target, i.Layers, i.Added, i.Tagged, i.Parent, i.Attested, config})
}

// decode makes an image, still without names, of its record.
func decode(id string, b []byte) (*Image, error) {
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, errdefs.DataLossf("image %s: damaged record: %w", id, err)
	}
	d, err := digest.Parse(id)
	if err != nil {
		return nil, err
	}
	return build(d, r)
}

// build computes what follows from a record. Errors: Invalid for a
// configuration that contradicts the manifest.
func build(id digest.Digest, r record) (*Image, error) {
	config, diffs, err := oci.ParseImage(r.Config)
	if err != nil {
		return nil, err
	}
	if len(diffs) != len(r.Layers) {
		return nil, errdefs.Invalidf("invalid image %s: the manifest has %d layers, the config %d", id, len(r.Layers), len(diffs))
	}
	img := &Image{
		ID: id, Config: config, Layers: r.Layers, ChainIDs: digest.Chain(diffs),
		Manifest: r.Manifest, Target: r.Target, Added: r.Added, Tagged: r.Tagged, Parent: r.Parent, Attested: r.Attested,
	}
	for i := range r.Layers {
		r.Layers[i].DiffID = diffs[i]
		img.Size += r.Layers[i].Size
	}
	if config.Created != nil {
		img.Created = *config.Created
	}
	return img, nil
}

// named returns a copy of the image that has a name more, or less.
func (i *Image) named(ref reference.Reference, has bool) *Image {
	c := *i
	list := &c.Names
	if ref.Digest != "" {
		list = &c.Digests
	}
	*list = slices.DeleteFunc(slices.Clone(*list), func(r reference.Reference) bool { return r == ref })
	if has {
		*list = append(*list, ref)
		slices.SortFunc(*list, func(a, b reference.Reference) int { return strings.Compare(a.Familiar(), b.Familiar()) })
	}
	return &c
}
