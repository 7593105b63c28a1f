// Package command is `lade build`: a client of the engine's builder, with what the
// builder asks of clients (files, secrets, an agent of ssh, credentials), and the
// display of how the build goes on. It is in this program because it needs
// BuildKit's client, and lade must start in no time.
//
// Sources: docker-build(1); client/solve.go of github.com/moby/buildkit.
//
// Concurrency: one build per process.
package command
