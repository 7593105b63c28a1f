// Package container holds the commands on containers: create, run, attach to,
// observe, change and remove them.
//
// run and start keep an order that loses nothing: attach, then wait, then start,
// so that no output and no exit code can pass before someone listens.
//
//	client            engine
//	  │ create ─────────▶ │
//	  │ attach ─────────▶ │   hijacked connection, both directions
//	  │ wait ───────────▶ │   next-exit, or removed with --rm
//	  │ start ──────────▶ │
//	  │ ◀──────── output  │   multiplexed, or raw with a terminal
//	  │ ◀──── exit status │
//
// Sources: docs.docker.com/reference/cli/docker/container, Docker Engine API
// (containers/create, attach, wait, resize), signal(7).
package container
