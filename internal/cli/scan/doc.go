// Package scan reads a JSON text (RFC 8259) from its beginning to its end and
// leaves to the caller what of it becomes a value: what nobody asks for is passed
// over, and nothing is found out about types. A command that prints three of the
// thirty fields of a thousand containers is over sooner than encoding/json is
// ready with the first hundred.
//
// It is strict about what it reads, and about what it passes over only as far as
// it has to be to find its end.
//
// A Scanner belongs to one goroutine.
package scan
