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
	Part   Part              // which part of a longer line it is; FormatJSON does not keep it
}

// Part says which part of a line longer than 16 kB a message is. The zero Part
// is that of a whole line.
type Part struct {
	ID      string // the same for all parts of a line
	Ordinal int    // from 1
	Last    bool
}
