// Package service is about programs that serve and outlive who starts them.
//
// A service manager is spoken with in the few words that need no library: Socket
// takes the socket that was opened for us, Notify tells that we are ready, Keep
// has a descriptor outlive us. What
// lade itself starts (lade-supervisor, lade-gate, the log relay) is started by
// Start, and says by Detach that it is ready.
//
// Sources: sd_listen_fds(3), sd_notify(3); daemon(7).
//
// Concurrency: Socket changes the environment, and belongs before the first
// goroutine; Detach is called once; the others may be called from any.
package service
