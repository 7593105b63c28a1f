// Package pull holds the use cases that bring images in and out: pull, push,
// load, save, import, search, and the check of a registry's credentials.
//
// Concurrency: a Puller has no state; what several pulls share is internal/image's.
// A client that leaves ends its pull; what was fetched is kept for the next one.
package pull
