package wire

import (
	"encoding/json"
	"sync"

	"lade/internal/decode"
)

// The requests that are on the way of every process that is started.
var (
	startShape = sync.OnceValue(decode.Of[Start])
	execShape  = sync.OnceValue(decode.Of[Exec])
)

// unmarshal decodes JSON into msg, a pointer to a zero value.
func unmarshal(body []byte, msg any) error {
	switch msg.(type) {
	case *Start:
		return startShape().Decode(body, msg)
	case *Exec:
		return execShape().Decode(body, msg)
	}
	return json.Unmarshal(body, msg)
}
