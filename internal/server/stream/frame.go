package stream

import (
	"encoding/binary"

	"lade/internal/logs"
)

// Frame appends the header of a frame with a payload of n bytes.
func Frame(b []byte, s logs.Stream, n int) []byte {
	b = append(b, byte(s), 0, 0, 0)
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

// sequence marks the start of a text in a sequence of JSON texts, RFC 7464.
const sequence = 0x1e

// Sequence appends the mark that stands before each JSON text of an
// application/json-seq stream.
func Sequence(b []byte) []byte { return append(b, sequence) }
