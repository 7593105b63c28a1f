// Package engine holds the use cases: what `lade` and every Docker client ask
// for, one method per API operation, named as in the API (ContainerStart).
package engine
