package target

import (
	"bytes"

	"lade/internal/errdefs"
	"lade/internal/logs"
	"lade/internal/supervisor/wire"
)

// Encoder makes packets of messages. Each packet goes out as one datagram, or
// one after another on a stream.
type Encoder interface {
	// Encode calls emit for each packet that a message needs. A packet is valid
	// during the call.
	Encode(m *logs.Message, emit func(packet []byte))
	// Acks returns how many packets are acknowledged by what the receiver has
	// sent, and how much of that was understood; ok is false for a receiver that
	// makes no sense. Receivers that acknowledge nothing answer 0 for everything.
	Acks(sent []byte) (packets, used int, ok bool)
	// Acknowledges reports whether the receiver acknowledges packets at all.
	Acknowledges() bool
}

// New returns the encoder for a target. Errors: NotImplemented.
func New(t *wire.Target) (Encoder, error) {
	switch t.Driver {
	case "journald":
		return newJournald(t), nil
	case "syslog":
		return newSyslog(t), nil
	case "gelf":
		return newGELF(t)
	case "fluentd":
		return newFluentd(t), nil
	}
	return nil, errdefs.NotImplementedf("log driver %q", t.Driver)
}

// silent is a receiver that sends nothing.
type silent struct{}

func (silent) Acks(sent []byte) (packets, used int, ok bool) { return 0, len(sent), true }
func (silent) Acknowledges() bool                            { return false }

// text is a message's line without its newline.
func text(m *logs.Message) []byte { return bytes.TrimSuffix(m.Line, []byte("\n")) }

// Severities of syslog(3).
const (
	severityError = 3
	severityInfo  = 6
)

func severity(m *logs.Message) int {
	if m.Stream == logs.Stderr {
		return severityError
	}
	return severityInfo
}
