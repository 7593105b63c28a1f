// Package worker is BuildKit's worker on top of the engine: it takes base images
// from laded, uses their layers where they are, runs steps by lade-runtime in
// networks of laded's, and gives laded what was built.
//
//	FROM   imageSource   laded's image; a layer becomes a snapshot that is a link to
//	                     laded's directory, its blob is read from laded's store
//	RUN    executor      BuildKit's for OCI runtimes; network asks laded for namespaces
//	=      exporter      BuildKit's image writer; the blobs that laded lacks are sent
//	                     to it as an OCI layout, and become layers of its own there
//
// What of laded's is used must not be deleted there: borrowed knows these blobs
// and layers, and tells laded when the cache has given some up.
//
// Sources: worker/runc and worker/base of github.com/moby/buildkit;
// snapshots/snapshotter.go of github.com/containerd/containerd.
//
// Concurrency: BuildKit calls everything from many goroutines.
package worker
