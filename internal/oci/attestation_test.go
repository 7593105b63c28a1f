package oci

import (
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
)

func TestAttests(t *testing.T) {
	const of = "sha256:" + hex64
	for _, c := range []struct {
		kind, of string
		want     string
	}{
		{"attestation-manifest", of, of}, {"attestation-manifest", "sha256:zz", ""}, {"attestation-manifest", "", ""},
		{"signature", of, ""}, {"", of, ""},
	} {
		d := ocispec.Descriptor{Annotations: map[string]string{"vnd.docker.reference.type": c.kind, "vnd.docker.reference.digest": c.of}}
		if got := string(Attests(d)); got != c.want || References(d) != (c.kind != "") {
			t.Errorf("%+v: %q, %v", c, got, References(d))
		}
	}
}

func TestParseAttestation(t *testing.T) {
	statement := strings.Replace(descriptor, "application/vnd.oci.image.config.v1+json", "application/vnd.in-toto+json", 1)
	good := `{"schemaVersion":2,"config":` + descriptor + `,"layers":[` + statement + `]}`
	if m, err := ParseAttestation([]byte(good)); err != nil || len(m.Layers) != 1 {
		t.Errorf("%+v, %v", m, err)
	}
	for name, bad := range map[string]string{
		"no JSON":      `{`,
		"an index":     `{"schemaVersion":2,"manifests":[]}`,
		"an image":     `{"schemaVersion":2,"config":` + descriptor + `,"layers":[` + descriptor + `]}`,
		"a bad digest": strings.Replace(good, hex64, "zz", 1),
		"too many":     `{"schemaVersion":2,"config":` + descriptor + `,"layers":[` + strings.Repeat(statement+",", maxStatements) + statement + `]}`,
	} {
		if _, err := ParseAttestation([]byte(bad)); errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseAttestation(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":` + descriptor + `,"layers":[` + descriptor + `]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseAttestation(b)
		if err != nil {
			return
		}
		for _, l := range append(m.Layers, m.Config) {
			if err := checkDescriptor(l); err != nil {
				t.Errorf("accepted a bad descriptor: %v", err)
			}
		}
	})
}
