package oci

import (
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of Docker's schema 2, and of the schemas that are refused.
const (
	DockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	DockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerConfig       = "application/vnd.docker.container.image.v1+json"
	dockerLayer        = "application/vnd.docker.image.rootfs.diff.tar"
	DockerLayerGzip    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	dockerForeignLayer = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

	dockerSchema1       = "application/vnd.docker.distribution.manifest.v1+json"
	dockerSchema1Signed = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// Acceptable returns the media types of the manifests and indexes that Parse
// reads, best first: what a registry is asked for.
func Acceptable() []string {
	return []string{ocispec.MediaTypeImageIndex, DockerManifestList, ocispec.MediaTypeImageManifest, DockerManifest}
}

// IsIndex reports whether a media type is that of a list of manifests.
func IsIndex(t string) bool { return t == ocispec.MediaTypeImageIndex || t == DockerManifestList }

// IsManifest reports whether a media type is that of a manifest.
func IsManifest(t string) bool { return t == ocispec.MediaTypeImageManifest || t == DockerManifest }

// isSchema1 reports whether a media type is that of Docker's first manifests.
func isSchema1(t string) bool { return t == dockerSchema1 || t == dockerSchema1Signed }

// isConfig reports whether a media type is that of an image's configuration.
func isConfig(t string) bool { return t == ocispec.MediaTypeImageConfig || t == DockerConfig }

// isLayer reports whether a media type is that of a layer that can be unpacked.
func isLayer(t string) bool {
	return slices.Contains([]string{
		ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd,
		dockerLayer, DockerLayerGzip, dockerLayer + ".zstd", dockerForeignLayer,
	}, t) || strings.HasPrefix(t, "application/vnd.oci.image.layer.nondistributable.v1.tar")
}

// Neutral returns the OCI media type of a layer whose type is Docker's; others
// stay as they are. A manifest's layers are all of one family.
func Neutral(t string) string {
	switch t {
	case dockerLayer:
		return ocispec.MediaTypeImageLayer
	case DockerLayerGzip:
		return ocispec.MediaTypeImageLayerGzip
	case dockerLayer + ".zstd":
		return ocispec.MediaTypeImageLayerZstd
	}
	return t
}
