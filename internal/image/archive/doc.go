// Package archive moves images through tar files: load and save of whole
// images, import of a bare root file system.
//
// Load reads two layouts, each plain or compressed as a whole, with layers that
// are compressed or not:
//
//	docker-archive   manifest.json, <config>.json, <layer>/layer.tar; layers may
//	                 be links to one another
//	OCI layout       oci-layout, index.json, blobs/sha256/<digest>
//
// The entries come in any order, so the stream is read once: what looks like a
// document is kept in memory (bounded), everything else goes straight into the
// content store, where it is hashed. Only then is the description read and are
// the names in it looked up among what came. A name of the archive is never a
// path of the host. Save writes one tar that is both layouts; docs/design/images.md
// says what is in it.
//
// On failure whatever the archive brought is deleted: it is protected by a
// lease only, which every way out releases.
//
// Sources: OCI image-spec image-layout.md; moby image/tarexport for the older
// layout and the messages; ustar and pax in pax(1).
package archive
