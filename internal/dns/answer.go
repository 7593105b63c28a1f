package dns

import (
	"net/netip"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	ttl = 600 // seconds that an answer may be kept, Docker's

	headerLen   = 12
	plainLen    = 512   // what a datagram holds where EDNS0 does not say more
	ourLen      = 4096  // what we say that we take
	optLen      = 11    // an OPT record without options
	resourceLen = 10    // of a record besides its name and data
	MaxLen      = 65535 // the longest message, over TCP
)

// Verdict says what becomes of a query.
type Verdict int

// The verdicts.
const (
	Answered Verdict = iota // the reply is complete
	Ask                     // others must be asked
	Ignore                  // it is no query; an answer could begin a loop
)

// query is what is understood of a message.
type query struct {
	header   dnsmessage.Header
	question dnsmessage.Question
	edns     bool
	size     int // of the longest answer
}

// read takes a message apart. It returns false for an answer, or less than a
// header; a code other than success is what is wrong with a query.
func (q *query) read(msg []byte, stream bool) (code dnsmessage.RCode, ok bool) {
	var p dnsmessage.Parser
	var err error
	if q.header, err = p.Start(msg); err != nil || q.header.Response {
		return 0, false
	}
	q.size = plainLen
	if q.header.OpCode != 0 {
		return dnsmessage.RCodeNotImplemented, true
	}
	if q.question, err = p.Question(); err != nil {
		return dnsmessage.RCodeFormatError, true
	}
	if _, err = p.Question(); err != dnsmessage.ErrSectionDone {
		return dnsmessage.RCodeFormatError, true
	}
	if err = p.SkipAllAnswers(); err == nil {
		err = p.SkipAllAuthorities()
	}
	for err == nil {
		var h dnsmessage.ResourceHeader
		if h, err = p.AdditionalHeader(); err != nil {
			break
		}
		if h.Type == dnsmessage.TypeOPT {
			if q.edns {
				return dnsmessage.RCodeFormatError, true // RFC 6891, 6.1.1
			}
			q.edns, q.size = true, max(plainLen, min(int(h.Class), ourLen))
		}
		err = p.SkipAdditional()
	}
	if err != dnsmessage.ErrSectionDone {
		return dnsmessage.RCodeFormatError, true
	}
	if stream {
		q.size = MaxLen
	}
	return dnsmessage.RCodeSuccess, true
}

// Answer appends the reply to a message to out, which should be empty, unless
// others must be asked. stream: it came over TCP, where nothing is truncated.
func (v *View) Answer(out, msg []byte, stream bool) ([]byte, Verdict) {
	var q query
	code, ok := q.read(msg, stream)
	switch {
	case !ok:
		return out, Ignore
	case code != dnsmessage.RCodeSuccess:
		return q.reply(out, code, nil), Answered
	case q.question.Class != dnsmessage.ClassINET:
		return out, Ask
	}
	var room [255]byte
	name := lower(room[:0], &q.question.Name)
	switch q.question.Type {
	case dnsmessage.TypeA, dnsmessage.TypeAAAA:
		if addrs, known := v.lookup(name); known {
			v.turn++
			return q.addresses(out, addrs, v.turn), Answered
		}
		if v.Bare && !v.Wide && !contains(name, '.') {
			return q.reply(out, dnsmessage.RCodeSuccess, nil), Answered
		}
	case dnsmessage.TypePTR:
		a, ok := address(name)
		if !ok {
			break
		}
		if called, known := v.reverse(a); known {
			if n, err := dnsmessage.NewName(called + "."); err == nil {
				return q.pointer(out, n), Answered
			}
		}
	}
	return out, Ask
}

// addresses answers with those of the family that is asked for, beginning with
// another one at each turn.
func (q *query) addresses(out []byte, addrs []netip.Addr, turn uint32) []byte {
	four := q.question.Type == dnsmessage.TypeA
	n := 0
	for _, a := range addrs {
		if a.Is4() == four {
			n++
		}
	}
	if n == 0 {
		return q.reply(out, dnsmessage.RCodeSuccess, nil)
	}
	each := int(q.question.Name.Length) + 1 + resourceLen + 16
	if four {
		each -= 12
	}
	room := q.room() / each
	q.header.Truncated = n > room
	return q.reply(out, dnsmessage.RCodeSuccess, func(b *dnsmessage.Builder) error {
		h := q.resource()
		skip := int(turn % uint32(n))
		left := min(n, room)
		for range 2 { // from the one whose turn it is, and round
			for _, a := range addrs {
				switch {
				case a.Is4() != four:
					continue
				case skip > 0:
					skip--
					continue
				case left == 0:
					return nil
				}
				left--
				var err error
				if four {
					err = b.AResource(h, dnsmessage.AResource{A: a.As4()})
				} else {
					err = b.AAAAResource(h, dnsmessage.AAAAResource{AAAA: a.As16()})
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (q *query) pointer(out []byte, to dnsmessage.Name) []byte {
	return q.reply(out, dnsmessage.RCodeSuccess, func(b *dnsmessage.Builder) error {
		return b.PTRResource(q.resource(), dnsmessage.PTRResource{PTR: to})
	})
}

func (q *query) resource() dnsmessage.ResourceHeader {
	return dnsmessage.ResourceHeader{Name: q.question.Name, Class: dnsmessage.ClassINET, TTL: ttl}
}

// room returns how many bytes there are for answers.
func (q *query) room() int {
	room := q.size - headerLen - (int(q.question.Name.Length) + 1 + 4)
	if q.edns {
		room -= optLen
	}
	return room
}

// reply appends the answer with a code, and with what answers writes, if that is
// not nil.
func (q *query) reply(out []byte, code dnsmessage.RCode, answers func(*dnsmessage.Builder) error) []byte {
	at := len(out)
	b := dnsmessage.NewBuilder(out, dnsmessage.Header{
		ID: q.header.ID, Response: true, OpCode: q.header.OpCode, Truncated: q.header.Truncated,
		RecursionDesired: q.header.RecursionDesired, RecursionAvailable: true, RCode: code,
	})
	err := b.StartQuestions()
	if err == nil && q.question.Name.Length > 0 {
		err = b.Question(q.question)
	}
	if err == nil && answers != nil {
		if err = b.StartAnswers(); err == nil {
			err = answers(&b)
		}
	}
	if err == nil && q.edns {
		if err = b.StartAdditionals(); err == nil {
			h := dnsmessage.ResourceHeader{Name: root()}
			if err = h.SetEDNS0(ourLen, code, false); err == nil {
				err = b.OPTResource(h, dnsmessage.OPTResource{})
			}
		}
	}
	msg, finish := b.Finish()
	if err != nil || finish != nil { // the question was read from a message, so it can be written
		return out[:at]
	}
	return msg
}

// root is the name of the root, "".
func root() dnsmessage.Name {
	n := dnsmessage.Name{Length: 1}
	n.Data[0] = '.'
	return n
}

// lower appends a name in lower case and without its last dot to out.
func lower(out []byte, n *dnsmessage.Name) []byte {
	for _, c := range n.Data[:max(1, n.Length)-1] {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		out = append(out, c)
	}
	return out
}

func contains(b []byte, c byte) bool {
	for _, x := range b {
		if x == c {
			return true
		}
	}
	return false
}
