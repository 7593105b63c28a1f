// Package remote speaks Docker's protocol for network drivers that are programs of
// their own: it makes an interface on the host for each endpoint, the engine puts
// that into the container and gives it its addresses.
//
//	CreateNetwork ─ CreateEndpoint ─ Join ─ … ─ Leave ─ DeleteEndpoint ─ DeleteNetwork
//
// Concurrency: a Driver may be used by several goroutines.
//
// Source: docs/remote.md of github.com/moby/libnetwork.
package remote
