// Package oci knows the documents that describe images: media types of the
// Open Container Initiative and of Docker's schema 2, manifests, indexes,
// image configurations and platforms. The structures are those of image-spec
// and docker-image-spec; here they are read from bytes that nobody vouches
// for, so every parser checks what later code relies on.
//
// A document is what its media type says. One that carries the fields of both
// a manifest and an index is refused, because two readers could disagree on
// what its digest stands for.
//
// Sources: OCI image-spec manifest.md, image-index.md, config.md,
// media-types.md; distribution-spec; Docker "Image Manifest V 2, Schema 2";
// CVE-2021-41190 for the ambiguity.
package oci
