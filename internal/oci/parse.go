package oci

import (
	"encoding/json"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/digest"
	"lade/internal/errdefs"
)

// Limits of what is read into memory, in bytes.
const (
	MaxManifest = 4 << 20 // the least that distribution-spec wants accepted
	MaxConfig   = 8 << 20
	maxLayers   = 1000
)

// Image is an image's configuration document.
type Image = dockerspec.DockerOCIImage

// shape is what tells the kinds of documents apart.
type shape struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     string          `json:"mediaType"`
	Config        json.RawMessage `json:"config"`
	Layers        json.RawMessage `json:"layers"`
	Manifests     json.RawMessage `json:"manifests"`
	FSLayers      json.RawMessage `json:"fsLayers"`
}

// MediaType returns what a manifest or index is, from its own bytes and the
// media type that its source claims ("" for none). Errors: Invalid for what is
// neither, contradicts itself or its source, or is of Docker's schema 1.
func MediaType(b []byte, claimed string) (string, error) {
	var s shape
	if err := json.Unmarshal(b, &s); err != nil {
		return "", errdefs.Invalidf("invalid manifest: %w", err)
	}
	if isSchema1(claimed) || isSchema1(s.MediaType) || s.FSLayers != nil || s.SchemaVersion == 1 {
		return "", errdefs.Invalidf("Docker Image Format v1 and Docker Image manifest version 2, schema 1 are not supported: " +
			"rebuild or push the image again with a newer client")
	}
	index, manifest := s.Manifests != nil, s.Config != nil || s.Layers != nil
	if index == manifest {
		return "", errdefs.Invalidf("invalid manifest: neither a manifest nor an index, or both")
	}
	known := func(t string) bool { return IsIndex(t) || IsManifest(t) }
	t := s.MediaType
	switch {
	case t == "" && known(claimed):
		t = claimed
	case t == "" && index:
		t = ocispec.MediaTypeImageIndex
	case t == "":
		t = ocispec.MediaTypeImageManifest
	}
	if known(claimed) && claimed != t || IsIndex(t) != index || IsManifest(t) != manifest {
		return "", errdefs.Invalidf("invalid manifest: its media type is %q, its source says %q", t, claimed)
	}
	return t, nil
}

// ParseManifest reads a manifest of a container image. Errors: Invalid, also
// for an artifact that is no image.
func ParseManifest(b []byte) (*ocispec.Manifest, error) {
	t, err := MediaType(b, "")
	if err != nil {
		return nil, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, errdefs.Invalidf("invalid manifest: %w", err)
	}
	if !IsManifest(t) {
		return nil, errdefs.Invalidf("invalid manifest: media type %q", t)
	}
	if !isConfig(m.Config.MediaType) {
		kind := m.ArtifactType
		if kind == "" {
			kind = m.Config.MediaType
		}
		return nil, errdefs.Invalidf("unsupported media type %s: not a container image", kind)
	}
	if len(m.Layers) > maxLayers {
		return nil, errdefs.Invalidf("invalid manifest: %d layers", len(m.Layers))
	}
	if err := checkDescriptor(m.Config); err != nil {
		return nil, err
	}
	for _, l := range m.Layers {
		if err := checkDescriptor(l); err != nil {
			return nil, err
		}
		if !isLayer(l.MediaType) {
			return nil, errdefs.Invalidf("unsupported media type %s of a layer", l.MediaType)
		}
	}
	return &m, nil
}

// ParseIndex reads an index. Errors: Invalid.
func ParseIndex(b []byte) (*ocispec.Index, error) {
	t, err := MediaType(b, "")
	if err != nil {
		return nil, err
	}
	var ix ocispec.Index
	if err := json.Unmarshal(b, &ix); err != nil {
		return nil, errdefs.Invalidf("invalid index: %w", err)
	}
	if !IsIndex(t) {
		return nil, errdefs.Invalidf("invalid index: media type %q", t)
	}
	for _, d := range ix.Manifests {
		if err := checkDescriptor(d); err != nil {
			return nil, err
		}
	}
	return &ix, nil
}

// checkDescriptor checks digest and size. Errors: Invalid, NotImplemented for
// a digest other than SHA-256.
func checkDescriptor(d ocispec.Descriptor) error {
	if _, err := digest.Parse(d.Digest.String()); err != nil {
		return err
	}
	if d.Size < 0 {
		return errdefs.Invalidf("invalid descriptor %s: size %d", d.Digest, d.Size)
	}
	return nil
}

// ParseImage reads an image's configuration and returns it with its DiffIDs.
// Errors: Invalid.
func ParseImage(b []byte) (*Image, []digest.DiffID, error) {
	var img Image
	if err := json.Unmarshal(b, &img); err != nil {
		return nil, nil, errdefs.Invalidf("invalid image config: %w", err)
	}
	if t := img.RootFS.Type; t != "layers" && t != "" {
		return nil, nil, errdefs.Invalidf("invalid image config: rootfs type %q", t)
	}
	diffs := make([]digest.DiffID, len(img.RootFS.DiffIDs))
	for i, d := range img.RootFS.DiffIDs {
		p, err := digest.Parse(d.String())
		if err != nil {
			return nil, nil, errdefs.Invalidf("invalid image config: DiffID: %w", err)
		}
		diffs[i] = digest.DiffID(p)
	}
	if img.OS == "" {
		img.OS = "linux" // as Docker reads configurations of old builders
	}
	return &img, diffs, nil
}
