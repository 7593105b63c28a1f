package image_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/image/imagetest"
	"lade/internal/oci"
	"lade/internal/reference"
)

// addIndex adds images for platforms, under one name, as pulls of an index do.
// Each version has other images.
func addIndex(t *testing.T, s *image.Images, version string, name reference.Reference, platforms ...ocispec.Platform) (all []*image.Image, target ocispec.Descriptor) {
	t.Helper()
	ix := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	var images []*imagetest.Built
	for _, p := range platforms {
		b := imagetest.Build(t, imagetest.Spec{Platform: p, Labels: map[string]string{"version": version}, Layers: [][]byte{
			imagetest.Tar(t, imagetest.File{Name: "platform", Body: oci.FormatPlatform(p)}),
		}})
		d := b.Desc
		d.Platform = &p
		ix.Manifests = append(ix.Manifests, d)
		images = append(images, b)
	}
	raw, err := json.Marshal(ix)
	if err != nil {
		t.Fatal(err)
	}
	target = image.Describe(ocispec.MediaTypeImageIndex, raw)
	for _, b := range images {
		lease := s.Lease()
		layers := imagetest.Store(t, s, lease, b)
		if err := lease.Hold(digest.Digest(target.Digest)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Content().WriteBlob(t.Context(), raw); err != nil {
			t.Fatal(err)
		}
		if err := s.Unpack(t.Context(), lease, layers, image.UnpackOptions{}); err != nil {
			t.Fatal(err)
		}
		names := []reference.Reference{name, name.WithDigest(digest.Digest(target.Digest))}
		img, err := s.Add(t.Context(), image.Addition{Manifest: b.Desc, Target: target, Layers: layers, Names: names})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, img)
		if err := lease.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return all, target
}

// TestVariants keeps the images of an index under one name: found by platform,
// tagged together, removed together or one by one, replaced by another index.
func TestVariants(t *testing.T) {
	dir := t.TempDir()
	s, end := imagetest.Open(t, dir)
	host, other, third := oci.Host(), ocispec.Platform{OS: "linux", Architecture: "s390x"}, ocispec.Platform{OS: "linux", Architecture: "riscv64"}
	both, more := ref(t, "both"), ref(t, "more")
	all, target := addIndex(t, s, "1", both, other, host, third)
	ids := func(list []*image.Image) (out []digest.Digest) {
		for _, img := range list {
			out = append(out, img.ID)
		}
		slices.Sort(out)
		return out
	}
	if _, err := s.Tag(t.Context(), "both", more); err != nil {
		t.Fatal(err)
	}
	end()
	s, end = imagetest.Open(t, dir) // what holds was written down
	defer end()
	for _, r := range []reference.Reference{both, more, both.WithDigest(digest.Digest(target.Digest))} {
		got, err := s.Variants(r)
		if err != nil || !slices.Equal(ids(got), ids(all)) || got[0].ID != all[1].ID {
			t.Errorf("%s: %v, %v", r, ids(got), err)
		}
		if d, err := s.Target(r); err != nil || d.Digest != target.Digest {
			t.Errorf("%s: %+v, %v", r, d, err)
		}
	}
	if img, err := s.Lookup(both); err != nil || img.ID != all[1].ID {
		t.Errorf("here: %v, %v", img, err)
	}
	if img, err := s.ResolveFor("both", &other); err != nil || img.ID != all[0].ID {
		t.Errorf("there: %v, %v", img, err)
	}
	mips := ocispec.Platform{OS: "linux", Architecture: "mips"}
	if _, err := s.ResolveFor("both", &mips); errdefs.KindOf(err) != errdefs.NotFound {
		t.Errorf("nowhere: %v", err)
	}
	if tags := s.Tags(ref(t, "more:x")); !slices.Equal(tags, []reference.Reference{more}) {
		t.Errorf("tags %v", tags)
	}

	// A container of one of them keeps them all: nothing is removed in part.
	if _, err := s.Remove(t.Context(), "more", image.RemoveOptions{}, nobody); err != nil {
		t.Fatal(err)
	}
	used := func(id digest.Digest) []image.User {
		if id == all[2].ID {
			return by(true)(id)
		}
		return nil
	}
	if _, err := s.Remove(t.Context(), "both", image.RemoveOptions{Force: true}, used); errdefs.KindOf(err) != errdefs.Conflict {
		t.Errorf("one is in use: %v", err)
	}
	if got, err := s.Variants(both); err != nil || len(got) != 3 {
		t.Errorf("%d are left, %v", len(got), err)
	}
	removed, err := s.Remove(t.Context(), "both", image.RemoveOptions{Platforms: []ocispec.Platform{host}}, used)
	if err != nil || len(removed) == 0 || removed[0].Deleted != string(all[1].ID) {
		t.Errorf("%+v, %v", removed, err)
	}
	if img, err := s.Lookup(both); err != nil || img.ID == all[1].ID {
		t.Errorf("after the removal of one: %v, %v", img, err)
	}

	// Another index takes the name from all that are left.
	next, _ := addIndex(t, s, "2", both, host)
	if got, err := s.Variants(both); err != nil || len(got) != 1 || got[0].ID != next[0].ID {
		t.Errorf("after another index: %v, %v", ids(got), err)
	}
	if img, err := s.Get(all[0].ID); err != nil || len(img.Names) != 0 || len(img.Digests) != 1 {
		t.Errorf("the old one: %+v, %v", img, err)
	}
	for _, img := range s.List() {
		if _, err := s.Remove(t.Context(), string(img.ID), image.RemoveOptions{Force: true}, nobody); err != nil {
			t.Fatal(err)
		}
	}
	imagetest.Empty(t, s)
}
