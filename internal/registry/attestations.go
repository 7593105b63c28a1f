package registry

import (
	"context"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/oci"
)

// attestations fetches what the index says about the chosen manifest. The image
// does without what the registry does not have, or what nobody here can read;
// a registry that sends something else than the index announces is an error.
func (p *pull) attestations(ctx context.Context, target, chosen *document) (out []image.Attestation, err error) {
	if target == chosen {
		return nil, nil
	}
	ix, err := oci.ParseIndex(target.raw)
	if err != nil {
		return nil, err
	}
	for _, d := range ix.Manifests {
		if oci.Attests(d) != chosen.digest {
			continue
		}
		a, err := p.attestation(ctx, d)
		switch errdefs.KindOf(err) {
		case errdefs.NotFound, errdefs.Invalid:
			p.c.Logger.Warn("an attestation was left out", "reference", p.ref.Familiar(), "digest", d.Digest, "error", err)
			continue
		}
		if err != nil {
			return nil, inWords(p.ref, err)
		}
		out = append(out, *a)
	}
	return out, nil
}

// attestation brings one with its statements into the content store.
func (p *pull) attestation(ctx context.Context, d ocispec.Descriptor) (*image.Attestation, error) {
	if err := p.lease.Hold(digest.Digest(d.Digest)); err != nil {
		return nil, err
	}
	raw, err := p.c.Images.ReadBlob(digest.Digest(d.Digest), oci.MaxManifest)
	if errdefs.KindOf(err) == errdefs.NotFound {
		var doc *document
		if doc, err = p.s.manifest(ctx, d.Digest.String(), digest.Digest(d.Digest)); err != nil {
			return nil, inWords(p.ref, err)
		}
		raw = doc.raw
		if int64(len(raw)) != d.Size {
			return nil, errdefs.DataLossf("manifest %s: %d bytes, the index says %d", d.Digest, len(raw), d.Size)
		}
	} else if err != nil {
		return nil, err
	}
	m, err := oci.ParseAttestation(raw)
	if err != nil {
		return nil, err
	}
	a := &image.Attestation{Manifest: image.Describe(d.MediaType, raw), Config: m.Config, Statements: m.Layers}
	if err := p.lease.Hold(a.Digests()...); err != nil {
		return nil, err
	}
	if _, err := p.c.Images.Content().WriteBlob(ctx, raw); err != nil {
		return nil, err
	}
	for _, b := range slices.Concat([]ocispec.Descriptor{m.Config}, m.Layers) {
		if err := p.blob(ctx, b, func(int64) {}, func() {}); err != nil {
			return nil, inWords(p.ref, err)
		}
	}
	return a, nil
}
