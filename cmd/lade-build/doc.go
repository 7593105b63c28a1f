// lade-build builds images: BuildKit's front end, API and solver over a worker
// that lives on laded's images, networks and runtime (package worker), and the
// classic POST /build on top of that (package classic).
//
// laded starts it when somebody builds, and ends it when nobody has for a while.
// How they speak with each other is in lade/internal/build. It is a module of its
// own, so that nothing of BuildKit is ever part of another program of lade's.
package main
