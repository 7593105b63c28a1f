// Package server is the Docker Engine API over HTTP: it reads requests, calls
// the engine, writes answers. It knows nothing of the kernel.
package server
