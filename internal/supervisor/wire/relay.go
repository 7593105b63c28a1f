package wire

import (
	"encoding/binary"
	"encoding/json"

	"lade/internal/errdefs"
)

// RelayName is the socket of the log relay in the supervisor's root directory.
const RelayName = "relay.sock"

// The relay speaks TLS with the targets of logs, which the supervisor does not.
// On a connection over the unix socket at Target.Relay
//
//	supervisor                                relay
//	  | length, RelayHello                     |
//	  |--------------------------------------->| connects, shakes hands
//	  | what is to be sent                     |
//	  |--------------------------------------->|
//	  |   RelayAck: so many bytes, in all, are |
//	  |   in the target's kernel               |
//	  |<---------------------------------------|
//	  |   RelayData: what the target has sent  |
//	  |<---------------------------------------|
//	  |   RelayError, and the end              |
//	  |<---------------------------------------|
//
// Numbers are big endian; a length is 4 bytes. An answer is a byte that says
// what it is, a length, and as many bytes.
type RelayHello struct {
	Addresses []string `json:"addresses"` // with ports; tried one after another
	TLS       TLS      `json:"tls"`
}

// TLS says how a target is trusted, and who we are. Files are read by the relay
// for each connection.
type TLS struct {
	Name       string `json:"name"`           // that the target's certificate must have
	CA         string `json:"ca,omitempty"`   // a file; "": what the system trusts
	Cert       string `json:"cert,omitempty"` // a file; "": none
	Key        string `json:"key,omitempty"`
	SkipVerify bool   `json:"skip_verify,omitempty"`
}

// RelayKind says what an answer of the relay is.
type RelayKind byte

const (
	RelayAck   RelayKind = 'a' // 8 bytes
	RelayData  RelayKind = 'd'
	RelayError RelayKind = 'e' // text
)

const (
	lengthLen = 4
	// maxRelay bounds a hello and an answer.
	maxRelay = 64 << 10
)

// Append appends the hello with its length.
func (h *RelayHello) Append(b []byte) ([]byte, error) {
	raw, err := json.Marshal(h)
	if err != nil {
		return b, err
	}
	return append(binary.BigEndian.AppendUint32(b, uint32(len(raw))), raw...), nil
}

// ParseRelayHello reads what Append has written. more is how many bytes are
// missing, as far as can be told. Errors: Invalid.
func ParseRelayHello(b []byte) (h *RelayHello, more int, err error) {
	if len(b) < lengthLen {
		return nil, lengthLen - len(b), nil
	}
	n := binary.BigEndian.Uint32(b)
	if n > maxRelay {
		return nil, 0, errdefs.Invalidf("a hello of %d bytes", n)
	}
	if missing := lengthLen + int(n) - len(b); missing > 0 {
		return nil, missing, nil
	}
	h = &RelayHello{}
	if err := json.Unmarshal(b[lengthLen:lengthLen+int(n)], h); err != nil {
		return nil, 0, errdefs.Invalidf("a relay's hello: %w", err)
	}
	return h, 0, nil
}

// AppendRelay appends an answer; data may have maxRelay bytes.
func AppendRelay(b []byte, kind RelayKind, data []byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, byte(kind)), uint32(len(data)))
	return append(b, data...)
}

// ParseRelay reads one answer from the begin of b; used is 0 if it is not
// complete. Errors: Invalid.
func ParseRelay(b []byte) (kind RelayKind, data []byte, used int, err error) {
	if len(b) < 1+lengthLen {
		return 0, nil, 0, nil
	}
	n := binary.BigEndian.Uint32(b[1:])
	if n > maxRelay {
		return 0, nil, 0, errdefs.Invalidf("an answer of %d bytes", n)
	}
	if used = 1 + lengthLen + int(n); used > len(b) {
		return 0, nil, 0, nil
	}
	return RelayKind(b[0]), b[1+lengthLen : used], used, nil
}
