// Package secrets holds the operations of the API on secrets and configs, which
// an engine has without a swarm. Their words are those of Docker's, which come
// from swarmkit.
//
// How a container gets them: engine/rootfs.
//
// Sources: Docker Engine API, "Secret" and "Config"; swarmkit's
// manager/controlapi/secret.go and config.go.
//
// Concurrency: a Keeper has no state of its own.
package secrets
