// Package netns makes network namespaces and runs code inside of them.
//
// A namespace belongs to a thread (network_namespaces(7)); Go moves goroutines
// between threads. So each call here uses a goroutine that is locked to its
// thread (Lock, or one of its own) and returns the thread to its own namespace,
// or, if that fails, ends the thread with the goroutine. A socket opened inside keeps the namespace and
// works from everywhere.
//
// A namespace lives as long as a process, a descriptor or a mount holds it; the
// kernel then takes it down, with the interfaces in it, in the background.
//
// Sources: network_namespaces(7), setns(2), unshare(2).
package netns
