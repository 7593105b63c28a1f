package server

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/supervisor/wire"
)

// greet tells the relay whom to connect with. It reports whether the connection
// is still there.
func (o *outlet) greet() bool {
	o.relayed, o.begun = nil, o.sent
	b, err := (&wire.RelayHello{Addresses: o.t.Addresses, TLS: *o.t.TLS}).Append(nil)
	if err == nil {
		var n int
		// The socket's buffer is empty, and larger than this.
		if n, err = unix.Write(o.fd, b); err == nil && n < len(b) {
			err = errdefs.Internalf("%d of %d bytes were taken", n, len(b))
		}
	}
	if err != nil {
		o.broken(os.NewSyscallError("write to the log relay", err))
		return false
	}
	return true
}

// hear takes what has come over the connection: of a target, into answers, or of
// the relay. It reports whether the connection is still there.
func (o *outlet) hear(b []byte) bool {
	if o.t.TLS == nil {
		o.answers = append(o.answers, b...)
		return true
	}
	o.relayed = append(o.relayed, b...)
	rest := o.relayed
	for {
		kind, data, used, err := wire.ParseRelay(rest)
		if err != nil {
			o.broken(err)
			return false
		}
		if used == 0 {
			o.relayed = o.relayed[:copy(o.relayed, rest)]
			return true
		}
		rest = rest[used:]
		if kind != wire.RelayError {
			o.wait = 0
		}
		switch {
		case kind == wire.RelayData:
			o.answers = append(o.answers, data...)
		case kind == wire.RelayError:
			o.broken(errdefs.Unavailablef("%s", data))
			return false
		case kind == wire.RelayAck && len(data) == 8 && !o.enc.Acknowledges():
			o.done = max(o.done, min(o.begun+int64(binary.BigEndian.Uint64(data)), o.sent))
			o.compact()
		}
	}
}
