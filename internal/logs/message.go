package logs

import "time"

// Stream says which of a process's streams a message came from; the values are
// those of the multiplexed stream's header.
type Stream uint8

const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// Message is a piece of output: a line with its newline, or a part of a line
// longer than 16 kB (then without).
type Message struct {
	Stream Stream
	Time   time.Time
	Line   []byte            // valid until the next message is read
	Attrs  map[string]string // of the log's options labels, env and tag
}
