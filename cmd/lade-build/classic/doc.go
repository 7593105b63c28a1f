// Package classic serves the Docker API's POST /build: the context comes as a tar
// in the request, and the answer tells of the instructions of the Dockerfile one
// after the other, as Docker's first builder did.
//
// The build itself is BuildKit's: the context is unpacked, offered to the solver
// by a session within this process, and what the solver tells of its graph is
// put back in the order of the Dockerfile (steps). Unlike the first builder it
// leaves out stages that nothing needs, and has no image between two steps.
//
// Sources: Docker Engine API, ImageBuild; builder/dockerfile of moby for the
// words of the answer.
//
// Concurrency: a Builder may build many at a time. Each build has a directory of
// its own, which is removed at its end, and what a crash left is removed by New.
package classic
