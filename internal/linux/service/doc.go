// Package service speaks with the service manager that started us, in the few
// words that need no library: it takes the socket that was opened for us, and
// tells that we are ready.
//
// Sources: sd_listen_fds(3), sd_notify(3).
//
// Concurrency: Socket changes the environment, and belongs before the first
// goroutine; Notify may be called from any.
package service
