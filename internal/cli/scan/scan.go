package scan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Scanner reads a text. Its zero value with Text is at the beginning. After the
// first error everything that is read is empty.
type Scanner struct {
	text []byte
	at   int
	err  error
}

// New returns a scanner of a text, which must not change while it is used.
func New(text []byte) *Scanner { return &Scanner{text: text} }

// End checks that nothing follows, and returns what was wrong first.
func (s *Scanner) End() error {
	if s.peek() != 0 || s.at < len(s.text) {
		s.fail("nothing more")
	}
	return s.err
}

func (s *Scanner) fail(wanted string) {
	if s.err == nil {
		s.err = fmt.Errorf("malformed JSON at byte %d: %s is needed", s.at, wanted)
	}
	s.at = len(s.text)
}

// peek returns the next byte that is no space, 0 at the end.
func (s *Scanner) peek() byte {
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// next passes a byte if it is the next one.
func (s *Scanner) next(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.at++
	return true
}

// Null passes a null if that is the next value.
func (s *Scanner) Null() bool {
	if s.peek() != 'n' || !bytes.HasPrefix(s.text[s.at:], []byte("null")) {
		return false
	}
	s.at += len("null")
	return true
}

// Object calls member for each member of an object, which must read or Skip its
// value, and keep no name. Null is an object without members.
func (s *Scanner) Object(member func(name []byte)) {
	if s.Null() {
		return
	}
	if !s.next('{') {
		s.fail("an object")
		return
	}
	if s.next('}') {
		return
	}
	for s.err == nil {
		name := s.bytes()
		if !s.next(':') {
			s.fail("a colon")
			return
		}
		member(name)
		if s.next('}') {
			return
		}
		if !s.next(',') {
			s.fail("a comma or }")
		}
	}
}

// Array calls element for each element of an array, which must read or Skip it.
// Null is an array without elements.
func (s *Scanner) Array(element func()) {
	if s.Null() {
		return
	}
	if !s.next('[') {
		s.fail("an array")
		return
	}
	if s.next(']') {
		return
	}
	for s.err == nil {
		element()
		if s.next(']') {
			return
		}
		if !s.next(',') {
			s.fail("a comma or ]")
		}
	}
}

// String reads a string; null is "".
func (s *Scanner) String() string { return string(s.bytes()) }

// bytes reads a string, as a part of the text where that is possible.
func (s *Scanner) bytes() []byte {
	if s.Null() {
		return nil
	}
	if s.peek() != '"' {
		s.fail("a string")
		return nil
	}
	begin := s.at
	plain := s.passString()
	if s.err != nil {
		return nil
	}
	inside := s.text[begin+1 : s.at-1]
	if plain && utf8.Valid(inside) {
		return inside
	}
	var out string // escapes are rare, and not worth code of our own
	if err := json.Unmarshal(s.text[begin:s.at], &out); err != nil {
		s.fail("a string")
		return nil
	}
	return []byte(out)
}

// passString passes a string that is next, and reports whether it means what it
// says: no escapes.
func (s *Scanner) passString() (plain bool) {
	plain = true
	for i := s.at + 1; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == '"':
			s.at = i + 1
			return plain
		case c == '\\':
			plain = false
			i++
		case c < ' ':
			s.at = i
			s.fail("no control character in a string")
			return false
		}
	}
	s.fail("the end of a string")
	return false
}

// Int reads a whole number; null is 0.
func (s *Scanner) Int() int64 {
	if s.Null() {
		return 0
	}
	s.peek()
	begin := s.at
	s.passWord()
	n, err := strconv.ParseInt(string(s.text[begin:s.at]), 10, 64)
	if err != nil && s.err == nil {
		s.at = begin
		s.fail("a whole number")
	}
	return n
}

// passWord passes a number, true, false or null.
func (s *Scanner) passWord() {
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c == '-', c == '+', c == '.', c == 'E':
		default:
			return
		}
	}
}

// Skip passes a value.
func (s *Scanner) Skip() {
	depth := 0
	for s.err == nil {
		switch c := s.peek(); c {
		case '"':
			s.passString()
		case '{', '[':
			s.at++
			depth++
		case '}', ']':
			s.at++
			depth--
		case ',', ':':
			if depth == 0 {
				s.fail("a value")
				return
			}
			s.at++
			continue
		default:
			begin := s.at
			if s.passWord(); s.at == begin {
				s.fail("a value")
				return
			}
		}
		if depth < 0 {
			s.fail("a value")
		}
		if depth <= 0 {
			return
		}
	}
}
