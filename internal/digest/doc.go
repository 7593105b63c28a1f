// Package digest names content by its SHA-256 hash and keeps the roles of a
// digest apart: the digest of a blob as stored, the DiffID of a layer's
// uncompressed tar, and the ChainID of a stack of layers.
//
// Source: OCI image-spec descriptor.md "Digests", config.md "Layer DiffID"
// and "Layer ChainID".
package digest
