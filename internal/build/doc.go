// Package build is how laded and lade-build speak with each other. laded starts
// lade-build when something is to be built, and links nothing of it.
//
//	client ── POST /build, /session, /grpc ──► laded ── the same requests ──► lade-build
//	                                             ▲                                │
//	                                             └── images, networks (Host) ◄────┘
//
// lade-build gets on its standard input one line, its Config, and then nothing:
// when that pipe ends laded is gone or wants it to end, and it ends. Descriptor
// ListenerFD is the socket on which it accepts what laded passes on.
//
// In the other direction lade-build asks for what is the engine's, in HTTP on the
// socket Config.Host, which root alone may open:
//
//	POST   /image            an image with its layers, fetched if need be
//	PUT    /held             which blobs and layers the cache goes on using
//	POST   /images           an OCI layout as a tar becomes images
//	POST   /networks/{id}    a network namespace, connected with the default bridge
//	DELETE /networks/{id}    takes it away again
//
// Concurrency: a Host may be used by many goroutines.
//
// Crash behaviour: nothing here is durable. What was given out to a lade-build
// that is gone is taken back by laded (internal/engine/builder).
package build
