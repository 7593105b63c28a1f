package oci

import (
	"encoding/json"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/digest"
	"lade/internal/errdefs"
)

// The annotations by which an index tells of an attestation, and of the manifest
// that it is for; and by which the manifest of attestations tells of a statement
// what it says.
//
// Sources: BuildKit docs/attestations/attestation-storage.md; in-toto
// attestation framework, "Statement".
const (
	annotationKind      = "vnd.docker.reference.type"
	annotationFor       = "vnd.docker.reference.digest"
	annotationPredicate = "in-toto.io/predicate-type"

	inToto = "application/vnd.in-toto+json"
)

// maxStatements bounds the statements of one manifest of attestations.
const maxStatements = 100

// MaxStatement is how long, in bytes, a statement may be to be read into memory:
// one with the contents of a large image takes some megabytes.
const MaxStatement = 64 << 20

// References reports whether an entry of an index stands for something about
// another entry rather than for an image.
func References(d ocispec.Descriptor) bool { return d.Annotations[annotationKind] != "" }

// Attests returns the digest of the manifest that an entry of an index holds
// attestations for; "" if it is no such entry.
func Attests(d ocispec.Descriptor) digest.Digest {
	of, err := digest.Parse(d.Annotations[annotationFor])
	if d.Annotations[annotationKind] != "attestation-manifest" || err != nil {
		return ""
	}
	return of
}

// ParseAttestation reads a manifest of attestations: its layers are in-toto
// statements. Errors: Invalid.
func ParseAttestation(b []byte) (*ocispec.Manifest, error) {
	t, err := MediaType(b, "")
	if err != nil {
		return nil, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, errdefs.Invalidf("invalid manifest of attestations: %w", err)
	}
	if !IsManifest(t) {
		return nil, errdefs.Invalidf("invalid manifest of attestations: media type %q", t)
	}
	if len(m.Layers) > maxStatements {
		return nil, errdefs.Invalidf("invalid manifest of attestations: %d statements", len(m.Layers))
	}
	for i, d := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if err := checkDescriptor(d); err != nil {
			return nil, err
		}
		if i > 0 && d.MediaType != inToto {
			return nil, errdefs.Invalidf("invalid manifest of attestations: a statement of media type %q", d.MediaType)
		}
	}
	return &m, nil
}

// PredicateType returns what a statement is about, a URI, as its descriptor says.
func PredicateType(d ocispec.Descriptor) string { return d.Annotations[annotationPredicate] }
