// Package server is the Docker Engine API over HTTP: it reads requests, calls
// the engine, writes answers. It knows nothing of the kernel.
//
//	request ─► normalise (version prefix, names with slashes)
//	        ─► http.ServeMux, filled from the one table in routes.go
//	        ─► serve (version check, headers, recover, error → status)
//	        ─► handler, in the file named for the operation
//	        ─► Backend
//
// Handlers speak the newest version of the types; what older clients are used
// to is a row in package compat.
//
// Sources: swagger.yaml and docs/CHANGELOG.md of github.com/moby/moby/api for
// the operations; exchanges recorded from a Docker 29 (testdata) for wording,
// status and what is null, empty or left out. They win where they differ.
//
// A client that goes away ends its waiting (attach, logs, events, stats, wait)
// and cancels transfers (pull, load, save); operations that change state get a
// context that is never cancelled and run to their end.
//
// The server keeps no state between requests; handlers run concurrently, one
// goroutine per request and one more for each stream. An answer's error after
// its header was sent cuts the connection, so that it cannot be taken for a
// complete one.
package server
