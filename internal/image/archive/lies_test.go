package archive_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/image/archive"
	"lade/internal/image/imagetest"
)

// layout is an OCI layout in the making.
type layout struct {
	t     *testing.T
	files []imagetest.File
}

// blob adds bytes and returns their descriptor.
func (l *layout) blob(mediaType string, raw []byte) ocispec.Descriptor {
	d := image.Describe(mediaType, raw)
	l.files = append(l.files, imagetest.File{Name: "blobs/sha256/" + d.Digest.Encoded(), Body: string(raw)})
	return d
}

func (l *layout) document(mediaType string, v any) ocispec.Descriptor {
	l.t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.blob(mediaType, raw)
}

func (l *layout) index(list ...ocispec.Descriptor) ocispec.Descriptor {
	l.t.Helper()
	return l.document(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: list,
	})
}

// image adds an image; change may falsify its manifest.
func (l *layout) image(change func(*ocispec.Manifest)) ocispec.Descriptor {
	l.t.Helper()
	b := twoLayers(l.t, imagetest.Spec{})
	for d, raw := range b.Blobs {
		l.files = append(l.files, imagetest.File{Name: "blobs/sha256/" + d.Hex(), Body: string(raw)})
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(b.Manifest, &m); err != nil {
		l.t.Fatal(err)
	}
	if change != nil {
		change(&m)
	}
	return l.document(ocispec.MediaTypeImageManifest, m)
}

func (l *layout) tar(top ...ocispec.Descriptor) []byte {
	l.t.Helper()
	raw, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: top})
	if err != nil {
		l.t.Fatal(err)
	}
	files := append(l.files, imagetest.File{Name: "oci-layout", Body: `{"imageLayoutVersion":"1.0.0"}`}, imagetest.File{Name: "index.json", Body: string(raw)})
	return imagetest.Tar(l.t, files...)
}

// TestLies: what contradicts itself in an OCI layout is refused, and nothing of it
// stays.
func TestLies(t *testing.T) {
	for name, c := range map[string]struct {
		make func(l *layout) []byte
		want string
	}{
		"size of a layer": {func(l *layout) []byte {
			return l.tar(l.image(func(m *ocispec.Manifest) { m.Layers[1].Size++ }))
		}, "its descriptor says"},
		"size of a manifest": {func(l *layout) []byte {
			d := l.image(nil)
			d.Size = 3
			return l.tar(d)
		}, "its descriptor says 3"},
		"type of a layer": {func(l *layout) []byte {
			return l.tar(l.image(func(m *ocispec.Manifest) { m.Layers[0].MediaType = "application/x-other" }))
		}, "unsupported media type application/x-other of a layer"},
		"type of a document": {func(l *layout) []byte {
			d := l.image(nil)
			d.MediaType = ocispec.MediaTypeImageIndex
			return l.tar(d)
		}, "its media type is"},
		"an artifact": {func(l *layout) []byte {
			return l.tar(l.image(func(m *ocispec.Manifest) { m.Config.MediaType = "application/vnd.cncf.helm.config.v1+json" }))
		}, "unsupported media type application/vnd.cncf.helm.config.v1+json: not a container image"},
		"another digest": {func(l *layout) []byte {
			return l.tar(l.image(func(m *ocispec.Manifest) {
				m.Layers[0].Digest = "sha512:" + m.Layers[0].Digest[len("sha256:"):] + m.Layers[0].Digest[len("sha256:"):]
			}))
		}, "sha512"},
		"a layer too few": {func(l *layout) []byte {
			return l.tar(l.image(func(m *ocispec.Manifest) { m.Layers = m.Layers[:1] }))
		}, "layers length mismatch"},
		"indexes in indexes": {func(l *layout) []byte {
			d := l.image(nil)
			for range 6 {
				d = l.index(d)
			}
			return l.tar(d)
		}, "indexes in indexes"},
		"an index of nothing": {func(l *layout) []byte { return l.tar(l.index()) }, "no image"},
		"both kinds": {func(l *layout) []byte {
			return l.tar(l.document(ocispec.MediaTypeImageIndex, map[string]any{"schemaVersion": 2, "manifests": []any{}, "layers": []any{}}))
		}, "neither a manifest nor an index, or both"},
		"no JSON": {func(l *layout) []byte {
			return l.tar(l.blob(ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2`)))
		}, "invalid manifest"},
	} {
		t.Run(name, func(t *testing.T) {
			s := imagetest.New(t)
			err := archive.Load(t.Context(), s, bytes.NewReader(c.make(&layout{t: t})), archive.LoadOptions{})
			if k := errdefs.KindOf(err); k != errdefs.Invalid && k != errdefs.NotImplemented || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v (%v), want %q", err, k, c.want)
			}
			imagetest.Empty(t, s)
		})
	}
}

// TestIndexBomb: indexes that name one another a thousand times each stand for a
// thousand million manifests; each is looked at once.
func TestIndexBomb(t *testing.T) {
	l, s := &layout{t: t}, imagetest.New(t)
	d := l.image(nil)
	for i := range 3 {
		list := make([]ocispec.Descriptor, 1000)
		for j := range list {
			list[j] = d
			list[j].Annotations = map[string]string{"n": fmt.Sprint(i, j)}
		}
		d = l.index(list...)
	}
	if err := archive.Load(t.Context(), s, bytes.NewReader(l.tar(d)), archive.LoadOptions{}); err != nil || len(s.List()) != 1 {
		t.Errorf("%d images, %v", len(s.List()), err)
	}
}

// TestBomb: a layer that is longer than the configuration allows is given up
// then, however short it is on the way; one that is not is taken.
func TestBomb(t *testing.T) {
	const most = 1 << 20
	zeros := imagetest.Tar(t, imagetest.File{Name: "zeros", Body: strings.Repeat("\x00", 4*most)})
	var files []imagetest.File
	for i := range 2 * most / 512 {
		files = append(files, imagetest.File{Name: fmt.Sprint("d/", i)})
	}
	many := imagetest.Tar(t, files...)
	fits := imagetest.Tar(t, imagetest.File{Name: "zeros", Body: strings.Repeat("\x00", most/2)})
	for name, c := range map[string]struct {
		layer    []byte
		compress func(testing.TB, []byte) []byte
		ok       bool
	}{
		"gzip": {zeros, imagetest.Gzip, false}, "zstd": {zeros, imagetest.Zstd, false}, "plain": {zeros, nil, false},
		"empty files": {many, imagetest.Gzip, false}, "fits": {fits, imagetest.Gzip, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := imagetest.Bounded(t, most)
			b := imagetest.Build(t, imagetest.Spec{Names: []string{"x"}, Layers: [][]byte{c.layer}, Compress: c.compress})
			err := archive.Load(t.Context(), s, bytes.NewReader(imagetest.OCIArchive(t, b)), archive.LoadOptions{})
			if c.ok {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if errdefs.KindOf(err) != errdefs.Invalid || !strings.Contains(err.Error(), "max-layer-size") || !strings.Contains(err.Error(), string(digest.Digest(b.Layers[0].Digest))) {
				t.Errorf("%v (%v)", err, errdefs.KindOf(err))
			}
			imagetest.Empty(t, s)
		})
	}
}

// FuzzLoad feeds archives that are not what they should be: whatever comes, an
// error leaves nothing behind.
func FuzzLoad(f *testing.F) {
	b := imagetest.Build(f, imagetest.Spec{Names: []string{"x"}, Layers: [][]byte{imagetest.Tar(f, imagetest.File{Name: "f", Body: "1"})}})
	f.Add(imagetest.OCIArchive(f, b))
	f.Add(imagetest.DockerArchive(f, b))
	f.Add(imagetest.Gzip(f, imagetest.DockerArchive(f, b)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s := imagetest.New(t)
		if err := archive.Load(t.Context(), s, bytes.NewReader(raw), archive.LoadOptions{}); err != nil && len(s.List()) == 0 {
			imagetest.Empty(t, s)
		}
	})
}
