// Package image keeps the images that the engine has: which there are, what
// they are called, and which blobs and snapshots belong to them.
//
//	name "docker.io/library/busybox:latest" ──► image (its config's digest)
//	                                             │ manifest, config, layers ──► blobs      (content)
//	                                             └ chain of DiffIDs ──────────► snapshots  (snapshot)
//
// A name may stand for several images, one for each platform of an index
// (names.go). An image is known by the digest of its configuration. The blobs
// stay as they were received, compressed, so that saving and pushing give the
// same digests.
//
// Life of an image: a Lease protects what a pull or a load brings in; Unpack
// turns layers into committed snapshots, several at a time; Add writes the record and the names in
// one batch; then the lease is released. Remove and Prune delete records;
// collection then deletes what no record, lease or child snapshot needs.
//
// Invariants: a name points to an existing image; every blob and snapshot of
// an image exists; nothing but the sweep in collect.go deletes blobs or
// committed snapshots.
//
// Crash behaviour: a batch of records is all or nothing and durable before a
// call returns, and records come last when something is added, first when it
// is removed. What a crash leaves over is garbage that Collect finds: blobs,
// snapshots, half unpacked layers. A lease survives for a day, so that what a
// cut pull has fetched is not fetched again.
//
// Concurrency: every method may be called at any time. Images are immutable;
// a change publishes a new one. Lock order: writing, sweeping, mu. The first
// orders the writers of records and is held over the commit; the second is
// held over the deletion of a few objects, so that Hold can promise that what
// it names is not being deleted; mu is held for memory accesses only.
//
// Sources: OCI image-spec manifest.md, config.md ("Layer DiffID", "Layer
// ChainID"); moby daemon/images (conflicts and wording of removal);
// the Docker Engine API, ImageDelete and ImagePrune.
package image
