package netlink

import (
	"encoding/binary"
	"iter"

	"golang.org/x/sys/unix"
)

// Request is one or more messages under construction. The zero value is empty
// and ready; Reset makes it so again and keeps the memory.
type Request struct {
	b    []byte
	last int // offset of the message under construction
	n    int // messages
}

// Reset empties the request.
func (r *Request) Reset() { r.b, r.last, r.n = r.b[:0], 0, 0 }

// Len returns the size in bytes.
func (r *Request) Len() int { return len(r.b) }

// Messages returns how many messages there are.
func (r *Request) Messages() int { return r.n }

// Message begins a message; NLM_F_REQUEST is implied.
func (r *Request) Message(typ, flags uint16) {
	r.last = len(r.b)
	r.n++
	r.b = append(r.b, make([]byte, unix.NLMSG_HDRLEN)...)
	h := r.b[r.last:]
	binary.NativeEndian.PutUint32(h, unix.NLMSG_HDRLEN)
	binary.NativeEndian.PutUint16(h[4:], typ)
	binary.NativeEndian.PutUint16(h[6:], flags|unix.NLM_F_REQUEST)
}

// close pads what was added and corrects the length of the message.
func (r *Request) close() {
	for len(r.b)%4 != 0 {
		r.b = append(r.b, 0)
	}
	binary.NativeEndian.PutUint32(r.b[r.last:], uint32(len(r.b)-r.last))
}

// Header adds the fixed header of the message's type.
func (r *Request) Header(b ...byte) {
	r.b = append(r.b, b...)
	r.close()
}

// Attr adds an attribute.
func (r *Request) Attr(typ uint16, value []byte) {
	r.b = binary.NativeEndian.AppendUint16(r.b, uint16(unix.NLA_HDRLEN+len(value)))
	r.b = binary.NativeEndian.AppendUint16(r.b, typ)
	r.b = append(r.b, value...)
	r.close()
}

// String adds a string with its terminating zero.
func (r *Request) String(typ uint16, s string) {
	r.b = binary.NativeEndian.AppendUint16(r.b, uint16(unix.NLA_HDRLEN+len(s)+1))
	r.b = binary.NativeEndian.AppendUint16(r.b, typ)
	r.b = append(r.b, s...)
	r.b = append(r.b, 0)
	r.close()
}

// Uint8 adds a byte.
func (r *Request) Uint8(typ uint16, v uint8) { r.Attr(typ, []byte{v}) }

// Uint32 adds a number in the byte order of the machine, as rtnetlink wants.
func (r *Request) Uint32(typ uint16, v uint32) {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], v)
	r.Attr(typ, b[:])
}

// Uint32BE adds a number in network byte order, as nfnetlink wants.
func (r *Request) Uint32BE(typ uint16, v uint32) {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	r.Attr(typ, b[:])
}

// Nest begins an attribute that holds attributes, up to End. The flag
// NLA_F_NESTED is the caller's: some families want it, some refuse it.
func (r *Request) Nest(typ uint16) int {
	at := len(r.b)
	r.Attr(typ, nil)
	return at
}

// End ends the attribute that Nest began.
func (r *Request) End(at int) {
	binary.NativeEndian.PutUint16(r.b[at:], uint16(len(r.b)-at))
}

// Bytes returns the request as it would be sent, for tests.
func (r *Request) Bytes() []byte { return r.b }

// seal numbers the messages from first on and asks for an acknowledgement of
// the last one. It returns the last number.
func (r *Request) seal(first uint32) uint32 {
	seq := first
	for at := 0; at < len(r.b); seq++ {
		h := r.b[at:]
		binary.NativeEndian.PutUint32(h[8:], seq)
		at += int(binary.NativeEndian.Uint32(h))
	}
	return seq - 1
}

// ack sets NLM_F_ACK on the message under construction.
func (r *Request) ack() {
	f := r.b[r.last+6:]
	binary.NativeEndian.PutUint16(f, binary.NativeEndian.Uint16(f)|unix.NLM_F_ACK)
}

// Ack asks for an acknowledgement of the message under construction; Do does so
// for the last one, which is enough unless the protocol ends a request with
// messages that are never acknowledged.
func (r *Request) Ack() { r.ack() }

// Message is one that was received.
type Message struct {
	Type, Flags uint16
	Seq         uint32
	Data        []byte // after the netlink header; valid until the next receive
}

// messages splits a datagram. A length that cannot be ends it.
func messages(b []byte) iter.Seq[Message] {
	return func(yield func(Message) bool) {
		for len(b) >= unix.NLMSG_HDRLEN {
			n := int(binary.NativeEndian.Uint32(b))
			if n < unix.NLMSG_HDRLEN || n > len(b) {
				return
			}
			m := Message{
				Type: binary.NativeEndian.Uint16(b[4:]), Flags: binary.NativeEndian.Uint16(b[6:]),
				Seq: binary.NativeEndian.Uint32(b[8:]), Data: b[unix.NLMSG_HDRLEN:n],
			}
			if !yield(m) {
				return
			}
			b = b[min(len(b), (n+3)&^3):]
		}
	}
}

// Attrs yields type and value of each attribute in b, without the flags in the
// type. A length that cannot be ends it.
func Attrs(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.NLA_HDRLEN {
			n := int(binary.NativeEndian.Uint16(b))
			if n < unix.NLA_HDRLEN || n > len(b) {
				return
			}
			typ := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if !yield(typ, b[unix.NLA_HDRLEN:n:n]) {
				return
			}
			b = b[min(len(b), (n+3)&^3):]
		}
	}
}

// Text returns a string attribute's value without its terminating zero.
func Text(v []byte) string {
	for i, c := range v {
		if c == 0 {
			return string(v[:i])
		}
	}
	return string(v)
}

// Uint32 returns a number in the byte order of the machine, 0 if v is short.
func Uint32(v []byte) uint32 {
	if len(v) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(v)
}
