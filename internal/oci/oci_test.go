package oci

import (
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
)

const (
	hex64      = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	descriptor = `{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:` + hex64 + `","size":2}`
)

func TestPlatform(t *testing.T) {
	for in, want := range map[string]string{
		"linux/amd64": "linux/amd64", "linux/x86_64": "linux/amd64", "arm64": "linux/arm64", "linux/arm64/v8": "linux/arm64",
		"linux/arm": "linux/arm/v7", "linux/arm/6": "linux/arm/v6", "LINUX/armhf": "linux/arm/v7", "windows": "windows/" + strings.TrimPrefix(FormatPlatform(Host()), Host().OS+"/"),
	} {
		if p, err := ParsePlatform(in); err != nil || FormatPlatform(p) != want {
			t.Errorf("ParsePlatform(%q) = %q, %v; want %q", in, FormatPlatform(p), err, want)
		}
	}
	for _, in := range []string{"", "a/b/c/d", "linux/", "linux/a b", "vax"} {
		if p, err := ParsePlatform(in); errdefs.KindOf(err) != errdefs.Invalid || err == nil {
			t.Errorf("ParsePlatform(%q) = %v, %v; want Invalid", in, p, err)
		}
	}
}

func TestSelect(t *testing.T) {
	entry := func(platform string) ocispec.Descriptor {
		p := strings.Split(platform+"//", "/")
		return ocispec.Descriptor{MediaType: DockerManifest, Size: 1, ArtifactType: platform,
			Platform: &ocispec.Platform{OS: p[0], Architecture: p[1], Variant: p[2]}}
	}
	for _, tc := range []struct {
		want string
		have []string
		got  string // "" for none
	}{
		{"linux/amd64", []string{"linux/arm64", "linux/386", "linux/amd64"}, "linux/amd64"},
		{"linux/amd64", []string{"linux/386", "linux/arm64"}, "linux/386"},
		{"linux/arm64", []string{"linux/arm/v6", "linux/arm/v7", "linux/arm64/v8"}, "linux/arm64/v8"},
		{"linux/arm64", []string{"linux/arm/v6", "linux/arm/v7"}, "linux/arm/v7"},
		{"linux/arm/v7", []string{"linux/arm/v5", "linux/arm/v6", "linux/arm64"}, "linux/arm/v6"},
		{"linux/arm/v6", []string{"linux/arm/v7"}, ""},
		{"linux/amd64", []string{"unknown/unknown", "windows/amd64"}, ""},
		{"linux/amd64/v3", []string{"linux/amd64", "linux/amd64/v2", "linux/amd64/v4"}, "linux/amd64/v2"},
	} {
		ix := &ocispec.Index{}
		for _, h := range tc.have {
			ix.Manifests = append(ix.Manifests, entry(h))
		}
		want, err := ParsePlatform(tc.want)
		if err != nil {
			t.Fatal(err)
		}
		d, err := Select(ix, want)
		if d.ArtifactType != tc.got || (err == nil) != (tc.got != "") {
			t.Errorf("Select(%s of %v) = %s, %v; want %q", tc.want, tc.have, d.ArtifactType, err, tc.got)
		}
		if err != nil && errdefs.KindOf(err) != errdefs.NotFound {
			t.Errorf("kind of %v", err)
		}
	}
}

func TestMediaType(t *testing.T) {
	for _, tc := range []struct {
		doc, claimed, want string // want "": an error
	}{
		{`{"schemaVersion":2,"config":` + descriptor + `,"layers":[]}`, "", ocispec.MediaTypeImageManifest},
		{`{"schemaVersion":2,"config":` + descriptor + `,"layers":[]}`, DockerManifest, DockerManifest},
		{`{"schemaVersion":2,"manifests":[]}`, "text/plain", ocispec.MediaTypeImageIndex},
		{`{"schemaVersion":2,"manifests":[],"layers":[]}`, "", ""},
		{`{"schemaVersion":2,"manifests":[]}`, DockerManifest, ""},
		{`{"schemaVersion":2,"mediaType":"` + DockerManifest + `","manifests":[]}`, "", ""},
		{`{"schemaVersion":2,"mediaType":"` + DockerManifest + `","layers":[]}`, ocispec.MediaTypeImageManifest, ""},
		{`{"schemaVersion":1,"fsLayers":[]}`, "", ""},
		{`{}`, "", ""},
		{`not json`, "", ""},
	} {
		got, err := MediaType([]byte(tc.doc), tc.claimed)
		if got != tc.want || (err != nil) != (tc.want == "") {
			t.Errorf("MediaType(%s, %q) = %q, %v; want %q", tc.doc, tc.claimed, got, err, tc.want)
		}
	}
}

func TestParseManifestRefusesArtifacts(t *testing.T) {
	helm := strings.Replace(descriptor, "application/vnd.oci.image.config.v1+json", "application/vnd.cncf.helm.config.v1+json", 1)
	_, err := ParseManifest([]byte(`{"schemaVersion":2,"config":` + helm + `,"layers":[]}`))
	if err == nil || err.Error() != "unsupported media type application/vnd.cncf.helm.config.v1+json: not a container image" {
		t.Errorf("an artifact: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":` + descriptor + `,"layers":[` + descriptor + `]}`))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[` + descriptor + `]}`))
	f.Add([]byte(`{"os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:` + hex64 + `"]},"config":{"Env":["a=b"]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := ParseManifest(b); err == nil {
			for _, l := range append(m.Layers, m.Config) {
				if err := checkDescriptor(l); err != nil {
					t.Errorf("accepted a bad descriptor: %v", err)
				}
			}
			if _, err := ParseIndex(b); err == nil {
				t.Error("both a manifest and an index")
			}
		}
		if img, diffs, err := ParseImage(b); err == nil && len(diffs) != len(img.RootFS.DiffIDs) {
			t.Error("DiffIDs lost")
		}
	})
}
