// Package content keeps blobs: manifests, image configurations and layers,
// each under the digest of its bytes.
//
// On disk (docs/design/storage.md; the blobs directory is that of an OCI image
// layout, so that any tool can read it):
//
//	<dir>/blobs/sha256/<64 digits>   a whole, verified blob
//	<dir>/ingest/<key>.part          what a Writer has received so far
//
// A Writer appends to its ingest and hashes on the way. Commit compares length
// and digest, and only then syncs the file, renames it to its name and syncs
// the directory: a name below blobs always stands for whole and durable
// content. A file never changes after that.
//
// Concurrency: everything may be called from many goroutines; a key has one
// writer at a time in the process, and one process owns a directory. An open
// Reader keeps its content while the blob is deleted.
//
// Crash behaviour: an ingest survives and is continued by the next Writer of
// its key; its hash is computed again from the file, so that a tail that the
// crash corrupted is found at Commit.
//
// Sources: OCI image-spec image-layout.md, fsync(2), rename(2).
package content
