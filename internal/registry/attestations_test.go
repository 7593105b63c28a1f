package registry_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/image/archive"
	"lade/internal/image/imagetest"
	"lade/internal/oci"
	"lade/internal/registry"
)

// attest adds an image for this machine to a registry, with its index under the
// tag said, which has an attestation of one statement for it, as BuildKit writes
// them, and one for an image that is not there.
func attest(t *testing.T, f *fake) (b *imagetest.Built, target, manifest ocispec.Descriptor, statement []byte) {
	t.Helper()
	b = built(t, 1, 0)
	f.add(b)
	statement = []byte(`{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://spdx.dev/Document","predicate":{}}`)
	config := []byte(`{"architecture":"unknown","os":"unknown"}`)
	marshal := func(v any) []byte {
		t.Helper()
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	said := image.Describe("application/vnd.in-toto+json", statement)
	said.Annotations = map[string]string{"in-toto.io/predicate-type": "https://spdx.dev/Document"}
	raw := marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: image.Describe(ocispec.MediaTypeImageConfig, config), Layers: []ocispec.Descriptor{said},
	})
	manifest = image.Describe(ocispec.MediaTypeImageManifest, raw)
	host := oci.Host()
	d := b.Desc
	d.Platform = &host
	about := func(of string) ocispec.Descriptor {
		a := manifest
		a.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
		a.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": of}
		return a
	}
	index := marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{d, about(d.Digest.String())},
	})
	target = image.Describe(ocispec.MediaTypeImageIndex, index)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.blobs[digest.FromBytes(statement)], f.blobs[digest.FromBytes(config)] = statement, config
	f.addManifestLocked(raw, manifest)
	f.addManifestLocked(index, target, "said")
	return b, target, manifest, statement
}

// TestAttestations: what an index says about an image comes with it, goes where
// it goes with the same digests, and goes away with it.
func TestAttestations(t *testing.T) {
	f, s := newFake(t), imagetest.New(t)
	b, target, manifest, statement := attest(t, f)
	c := client(t, s, nil)
	from := ref(t, f.host+"/a/b:said")
	check := func(s *image.Images, name string) {
		t.Helper()
		img, err := s.Resolve(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(img.Attested) != 1 || img.Attested[0].Manifest.Digest != manifest.Digest || len(img.Attested[0].Statements) != 1 {
			t.Fatalf("attested: %+v", img.Attested)
		}
		d := img.Attested[0].Statements[0]
		if raw, err := s.ReadBlob(digest.Digest(d.Digest), 1<<20); err != nil || !bytes.Equal(raw, statement) || oci.PredicateType(d) != "https://spdx.dev/Document" {
			t.Errorf("statement %q about %q, %v", raw, oci.PredicateType(d), err)
		}
	}
	if img, _, err := pull(t, c, from, registry.PullOptions{}); err != nil || img.ID != b.ID {
		t.Fatalf("%+v, %v", img, err)
	}
	check(s, from.Familiar())

	// Again: nothing but the index is asked for that is here.
	if _, _, err := pull(t, c, from, registry.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if n := f.count("/manifests/" + manifest.Digest.String()); n != 1 {
		t.Errorf("the attestation was fetched %d times", n)
	}
	check(s, from.Familiar())

	// Push: the index is whole, so its digest stays.
	to := ref(t, serve(t, "")+"/copy/x:y")
	if _, err := s.Tag(t.Context(), from.Familiar(), to); err != nil {
		t.Fatal(err)
	}
	if d, _, err := pushed(t, c, to, registry.PushOptions{}); err != nil || string(d) != target.Digest.String() {
		t.Errorf("pushed %s, %v, want %s", d, err, target.Digest)
	}
	other := imagetest.New(t)
	if _, _, err := pull(t, client(t, other, nil), to, registry.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	check(other, to.Familiar())

	// Save and load.
	var saved bytes.Buffer
	if err := archive.Save(t.Context(), s, []string{from.Familiar()}, nil, &saved); err != nil {
		t.Fatal(err)
	}
	third := imagetest.New(t)
	if err := archive.Load(t.Context(), third, &saved, archive.LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	check(third, from.Familiar())
	if got, err := third.Target(from); err != nil || got.Digest != target.Digest {
		t.Errorf("loaded as %s, %v", got.Digest, err)
	}

	// A copy without them does not take them away; removing the image does.
	if _, err := s.Add(t.Context(), image.Addition{Manifest: b.Desc, Layers: mustLookup(t, s, from.Familiar()).Layers}); err != nil {
		t.Fatal(err)
	}
	check(s, from.Familiar())
	nobody := func(digest.Digest) []image.User { return nil }
	for _, s := range []*image.Images{s, other, third} {
		for _, img := range s.List() {
			if _, err := s.Remove(t.Context(), img.ID.String(), image.RemoveOptions{Force: true}, nobody); err != nil {
				t.Fatal(err)
			}
		}
		imagetest.Empty(t, s)
	}
}

func mustLookup(t *testing.T, s *image.Images, name string) *image.Image {
	t.Helper()
	img, err := s.Resolve(name)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// TestBadAttestations: an image does without what its registry lacks or nobody can
// read, and does not come from one that lies.
func TestBadAttestations(t *testing.T) {
	for name, c := range map[string]struct {
		part func(manifest ocispec.Descriptor, statement []byte) string // of the path
		body string                                                     // "": not found
		kind errdefs.Kind                                               // of the error; Internal: none
	}{
		"manifest missing":  {func(m ocispec.Descriptor, _ []byte) string { return m.Digest.String() }, "", errdefs.Internal},
		"manifest lies":     {func(m ocispec.Descriptor, _ []byte) string { return m.Digest.String() }, "{}", errdefs.DataLoss},
		"statement missing": {func(_ ocispec.Descriptor, s []byte) string { return string(digest.FromBytes(s)) }, "", errdefs.Internal},
		"statement lies":    {func(_ ocispec.Descriptor, s []byte) string { return string(digest.FromBytes(s)) }, "else", errdefs.DataLoss},
	} {
		t.Run(name, func(t *testing.T) {
			f, s := newFake(t), imagetest.New(t)
			_, _, manifest, statement := attest(t, f)
			part := c.part(manifest, statement)
			f.meddle = func(w http.ResponseWriter, r *http.Request) bool {
				switch {
				case !strings.Contains(r.URL.Path, part):
					return false
				case c.body == "":
					refuse(w, 404, "MANIFEST_UNKNOWN", "manifest unknown")
				default:
					io.WriteString(w, c.body)
				}
				return true
			}
			img, _, err := pull(t, client(t, s, nil), ref(t, f.host+"/a/b:said"), registry.PullOptions{})
			if c.kind == errdefs.Internal {
				if err != nil || len(img.Attested) != 0 {
					t.Errorf("%+v, %v", img, err)
				}
				return
			}
			if errdefs.KindOf(err) != c.kind {
				t.Errorf("%v (%v)", err, errdefs.KindOf(err))
			}
			imagetest.Empty(t, s)
		})
	}
}
