package dns

import (
	"encoding/binary"

	"golang.org/x/net/dns/dnsmessage"
)

// A query that is passed on, and its answer, stay as they are, so that what is
// not understood here (EDNS0 options, DNSSEC, new types) works; only the id is
// another.

// Refused appends the reply that a query was not asked on, because there is too
// much to do; Failed that nobody has answered it.
func Refused(out, msg []byte) []byte { return fail(out, msg, dnsmessage.RCodeRefused) }

// Failed: see Refused.
func Failed(out, msg []byte) []byte { return fail(out, msg, dnsmessage.RCodeServerFailure) }

// Unknown appends the reply that there is no such name.
func Unknown(out, msg []byte) []byte { return fail(out, msg, dnsmessage.RCodeNameError) }

// Found reports whether an answer says that there is such a name.
func Found(answer []byte) bool {
	var p dnsmessage.Parser
	h, err := p.Start(answer)
	return err == nil && h.RCode == dnsmessage.RCodeSuccess
}

func fail(out, msg []byte, code dnsmessage.RCode) []byte {
	var q query
	if _, ok := q.read(msg, false); !ok {
		return out
	}
	return q.reply(out, code, nil)
}

// Prepare appends a copy of a query with another id to out.
func Prepare(out, msg []byte, id uint16) []byte {
	at := len(out)
	out = append(out, msg...)
	binary.BigEndian.PutUint16(out[at:], id)
	return out
}

// Match says whether an answer is one to the query with the given id, and gives
// it the id of the query. bad: its server could not answer, another may.
//
// Source: RFC 5452, 9.1; the addresses and ports are compared by the kernel.
func Match(answer, msg []byte, id uint16) (match, bad bool) {
	var a, q dnsmessage.Parser
	h, err := a.Start(answer)
	if err != nil || !h.Response || h.ID != id {
		return false, false
	}
	asked, err := q.Start(msg)
	if err != nil {
		return false, false
	}
	// A server that did not understand the query need not repeat it.
	bad = h.RCode == dnsmessage.RCodeServerFailure || h.RCode == dnsmessage.RCodeRefused ||
		h.RCode == dnsmessage.RCodeNotImplemented || h.RCode == dnsmessage.RCodeFormatError
	want, err := q.Question()
	if err != nil {
		return false, false
	}
	got, err := a.Question()
	if err != nil && !bad || err == nil && !same(&got, &want) {
		return false, false
	}
	binary.BigEndian.PutUint16(answer, asked.ID)
	return true, bad
}

func same(a, b *dnsmessage.Question) bool {
	var x, y [255]byte
	return a.Type == b.Type && a.Class == b.Class && string(lower(x[:0], &a.Name)) == string(lower(y[:0], &b.Name))
}
