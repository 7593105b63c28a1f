// Package stream is how the server sends what has no end known beforehand:
//
//   - Writer batches small messages and flushes them when the producer pauses,
//     so that a busy log costs a system call per batch and a quiet one arrives
//     at once;
//   - Frame is the header of the multiplexed stream, which tells standard output
//     from standard error;
//   - Hijack takes a connection from the HTTP server and turns it into a file
//     that can be handed to another process.
//
// A multiplexed stream is a sequence of frames:
//
//	byte 0     stream: 1 standard output, 2 standard error
//	bytes 1–3  zero
//	bytes 4–7  length of the payload, big endian
//	bytes 8–   payload
//
// Sources: "Attach to a container" (stream format, hijacking) of the Docker
// Engine API; RFC 9110 section 7.8 (Upgrade), RFC 7464 (JSON text sequences).
//
// Concurrency: a Writer has one producer and one goroutine that sends, which
// Close waits for.
package stream
