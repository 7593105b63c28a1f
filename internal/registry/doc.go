// Package registry fetches images from registries over HTTP, and sends them there.
//
//	reference ─► endpoints (mirrors, https, http where allowed: hosts.go)
//	          ─► GET manifests/<tag>            index? choose by platform, GET manifests/<digest>
//	          ─► GET blobs/<config>
//	          ─► GET blobs/<layer> …            a few at a time, resumed by Range
//	                └─► unpack in order, while the later ones are still coming
//	          ─► record and names               at the very end
//
//	push: HEAD, mount or upload of each layer (upload.go) ─► configuration
//	          ─► manifests ─► index or manifest under the tag, at the very end
//
// Authentication (tokens, basic) is oras-go's; transfer is ours: every body is
// hashed while it is written, a cut or stalled transfer goes on where it ended,
// and what a registry says is believed only as far as digests and lengths bear
// it out. Nothing of a failed pull is visible, but what it fetched stays for a
// day under a lease, so that trying again goes on. Blobs are sent as they are
// stored, which is as they came.
//
// Plain HTTP, and HTTPS without a trusted certificate, are used for loopback
// and for what is configured as insecure, never otherwise. Credentials go to
// the registry that they are for; a redirect elsewhere does not take them.
//
// Concurrency: everything may be called at any time. Two pulls that need the
// same blob share one download, also across a change of the configuration
// (Live). Transfers have a limit for each pull or push, and one for all.
//
// Sources: OCI distribution-spec; containerd docs/hosts.md;
// docs.docker.com/engine/security/certificates; RFC 9110 (Range, Retry-After); the Docker
// Engine's messages in distribution/errors.go and its JSON progress stream.
package registry
