// Package ns names namespaces and makes the empty one that containers are
// started from.
//
// Sources: namespaces(7), setns(2), unshare(2), mount_namespaces(7),
// pivot_root(2).
package ns
