// Package snapshot keeps the file systems of containers and images as stacks
// of layers. A driver (overlay2, vfs, …) implements Snapshotter.
//
// A snapshot is active (writable, of one container), or committed (read-only,
// a layer of an image, parent of others). Its key is its name: the ChainID's
// hexadecimal digits for a committed layer, the container's id for an active
// one.
package snapshot
