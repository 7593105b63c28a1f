// Package imagetest makes image stores and image archives for tests.
package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	godigest "github.com/opencontainers/go-digest"

	"lade/internal/content"
	"lade/internal/digest"
	"lade/internal/image"
	"lade/internal/need"
	"lade/internal/oci"
	"lade/internal/reference"
	"lade/internal/snapshot"
	"lade/internal/snapshot/overlay2"
	"lade/internal/store"
)

// New returns an empty image store in a temporary directory; root is needed.
func New(t testing.TB) *image.Images {
	t.Helper()
	s, end := Open(t, t.TempDir())
	t.Cleanup(end)
	return s
}

// Open opens the image store in dir, with snapshots of overlay2; end closes it.
func Open(t testing.TB, dir string) (s *image.Images, end func()) {
	t.Helper()
	return OpenOn(t, dir, func(log *slog.Logger) (snapshot.Snapshotter, error) {
		return overlay2.New(filepath.Join(dir, "overlay2"), log)
	})
}

// OpenOn opens the image store in dir, with snapshots of another driver, which
// end closes too.
func OpenOn(t testing.TB, dir string, driver func(*slog.Logger) (snapshot.Snapshotter, error)) (s *image.Images, end func()) {
	t.Helper()
	return open(t, dir, 0, driver)
}

// Bounded returns an empty image store in a temporary directory whose layers may
// be so many bytes long.
func Bounded(t testing.TB, bytes int64) *image.Images {
	t.Helper()
	dir := t.TempDir()
	s, end := open(t, dir, bytes, func(log *slog.Logger) (snapshot.Snapshotter, error) {
		return overlay2.New(filepath.Join(dir, "overlay2"), log)
	})
	t.Cleanup(end)
	return s
}

func open(t testing.TB, dir string, max int64, driver func(*slog.Logger) (snapshot.Snapshotter, error)) (s *image.Images, end func()) {
	t.Helper()
	need.Root(t)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	records, err := store.Open(filepath.Join(dir, "records"), log)
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := content.Open(filepath.Join(dir, "content"), log)
	if err != nil {
		t.Fatal(err)
	}
	snap, err := driver(log)
	if err != nil {
		t.Fatal(err)
	}
	s, err = image.New(image.Config{Store: records, Content: blobs, Snapshotter: snap, MaxLayer: max, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	return s, func() {
		if err := snap.Close(); err != nil {
			t.Error(err)
		}
		if err := records.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Objects returns how many blobs, snapshots and ingests a store holds.
func Objects(t testing.TB, s *image.Images) (blobs, snapshots, ingests int) {
	t.Helper()
	for _, err := range s.Content().Walk() {
		if err != nil {
			t.Fatal(err)
		}
		blobs++
	}
	for _, err := range s.Snapshotter().Walk(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		snapshots++
	}
	in, err := s.Content().Ingests()
	if err != nil {
		t.Fatal(err)
	}
	return blobs, snapshots, len(in)
}

// Empty fails the test if the store holds anything.
func Empty(t testing.TB, s *image.Images) {
	t.Helper()
	if b, n, i := Objects(t, s); b+n+i != 0 || len(s.List()) != 0 {
		t.Errorf("left behind: %d blobs, %d snapshots, %d ingests, %d images", b, n, i, len(s.List()))
	}
}

// File is an entry of a tar.
type File struct {
	Name string
	Body string
	Type byte   // 0: a file, or a directory for a name that ends in "/"
	Link string // target of a link
	Mode int64  // 0: 0755
}

// Tar returns the tar of files.
func Tar(t testing.TB, files ...File) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.Name, Typeflag: f.Type, Linkname: f.Link, Mode: 0o755, ModTime: time.Unix(1e9, 0)}
		if f.Mode != 0 {
			h.Mode = f.Mode
		}
		switch {
		case f.Type == 0 && f.Name[len(f.Name)-1] == '/':
			h.Typeflag = tar.TypeDir
		case f.Type == 0:
			h.Typeflag = tar.TypeReg
			h.Size = int64(len(f.Body))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.Body)); h.Typeflag == tar.TypeReg && err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Gzip compresses b.
func Gzip(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Zstd compresses b.
func Zstd(t testing.TB, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(b, nil)
}

// Spec is an image in the making.
type Spec struct {
	Names    []string
	Layers   [][]byte // plain tars
	Compress func(testing.TB, []byte) []byte
	Platform ocispec.Platform // zero: the host's
	Labels   map[string]string
	Docker   bool // media types of schema 2
}

// Built is an image with its documents.
type Built struct {
	Spec     Spec
	Config   []byte
	Manifest []byte
	Desc     ocispec.Descriptor
	Blobs    map[digest.Digest][]byte // layers and config, not the manifest
	ID       digest.Digest
	Layers   []ocispec.Descriptor
}

// Build makes the documents of an image.
func Build(t testing.TB, s Spec) *Built {
	t.Helper()
	c := oci.Image{}
	c.Platform = s.Platform
	if c.Architecture == "" {
		c.Platform = oci.Host()
	}
	made := time.Unix(1e9, 0).UTC()
	c.Created = &made
	c.RootFS.Type = "layers"
	c.Config.Labels = s.Labels
	c.Config.Cmd = []string{"/bin/sh"}
	b := &Built{Spec: s, Blobs: map[digest.Digest][]byte{}}
	configType, layerType := ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayer
	manifestType := ocispec.MediaTypeImageManifest
	if s.Docker {
		configType, layerType, manifestType = oci.DockerConfig, oci.DockerLayerGzip, oci.DockerManifest
	}
	for i, l := range s.Layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, godigest.FromBytes(l))
		c.History = append(c.History, ocispec.History{Created: &made, CreatedBy: "layer " + string(rune('a'+i))})
		if s.Compress != nil {
			l = s.Compress(t, l)
		}
		d := image.Describe(layerType, l)
		b.Layers = append(b.Layers, d)
		b.Blobs[digest.Digest(d.Digest)] = l
	}
	c.History = append(c.History, ocispec.History{Created: &made, CreatedBy: "CMD", EmptyLayer: true})
	b.Config = marshal(t, c)
	config := image.Describe(configType, b.Config)
	b.ID = digest.Digest(config.Digest)
	b.Blobs[b.ID] = b.Config
	b.Manifest = marshal(t, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: manifestType, Config: config, Layers: b.Layers,
	})
	b.Desc = image.Describe(manifestType, b.Manifest)
	return b
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// DockerArchive returns the docker-archive of images.
func DockerArchive(t testing.TB, images ...*Built) []byte {
	t.Helper()
	var files []File
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var entries []entry
	for _, b := range images {
		e := entry{Config: b.ID.Hex() + ".json", RepoTags: b.Spec.Names}
		files = append(files, File{Name: e.Config, Body: string(b.Config)})
		for _, d := range b.Layers {
			name := d.Digest.Encoded() + "/layer.tar"
			e.Layers = append(e.Layers, name)
			files = append(files, File{Name: d.Digest.Encoded() + "/"}, File{Name: name, Body: string(b.Blobs[digest.Digest(d.Digest)])})
		}
		entries = append(entries, e)
	}
	return Tar(t, append(files, File{Name: "manifest.json", Body: string(marshal(t, entries))})...)
}

// OCIArchive returns the OCI layout of images.
func OCIArchive(t testing.TB, images ...*Built) []byte {
	t.Helper()
	files := []File{{Name: "oci-layout", Body: `{"imageLayoutVersion":"1.0.0"}`}}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}}
	for _, b := range images {
		files = append(files, File{Name: "blobs/sha256/" + b.Desc.Digest.Encoded(), Body: string(b.Manifest)})
		for d, body := range b.Blobs {
			files = append(files, File{Name: "blobs/sha256/" + d.Hex(), Body: string(body)})
		}
		d := b.Desc
		for _, n := range b.Spec.Names {
			d.Annotations = map[string]string{"io.containerd.image.name": n}
			index.Manifests = append(index.Manifests, d)
		}
		if len(b.Spec.Names) == 0 {
			index.Manifests = append(index.Manifests, d)
		}
	}
	return Tar(t, append(files, File{Name: "index.json", Body: string(marshal(t, index))})...)
}

// Add adds an image as a pull does, without a registry.
func Add(t testing.TB, s *image.Images, b *Built, names ...reference.Reference) *image.Image {
	t.Helper()
	ctx := t.Context()
	lease := s.Lease()
	defer func() {
		if err := lease.Release(ctx); err != nil {
			t.Error(err)
		}
	}()
	layers := Store(t, s, lease, b)
	if err := s.Unpack(ctx, lease, layers, image.UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	img, err := s.Add(ctx, image.Addition{Manifest: b.Desc, Layers: layers, Names: names})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// Store puts the documents and blobs of an image into the content store, held
// by the lease, and returns its layers, to be unpacked.
func Store(t testing.TB, s *image.Images, lease *image.Lease, b *Built) []image.Layer {
	t.Helper()
	layers := make([]image.Layer, len(b.Layers))
	_, diffs, err := oci.ParseImage(b.Config)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range b.Layers {
		layers[i] = image.Layer{Blob: d, DiffID: diffs[i]}
	}
	for _, body := range append([][]byte{b.Manifest}, slices.Collect(maps.Values(b.Blobs))...) {
		if err := lease.Hold(digest.FromBytes(body)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Content().WriteBlob(t.Context(), body); err != nil {
			t.Fatal(err)
		}
	}
	return layers
}
