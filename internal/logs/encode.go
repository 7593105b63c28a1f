package logs

import (
	"encoding/binary"
	"encoding/json"
	"math/bits"
	"time"
	"unicode/utf8"
)

const hex = "0123456789abcdef"

// jsonEncoder writes FormatJSON.
type jsonEncoder struct{ attrs []byte }

func (e jsonEncoder) append(b *Buffer, m *Message) {
	line := m.Line
	b.out = append(b.out, `{"log":"`...)
	if n := len(line); n > 0 && line[n-1] == '\n' {
		b.out = append(appendEscaped(b.out, line[:n-1]), `\n`...)
	} else {
		b.out = appendEscaped(b.out, line)
	}
	if m.Part.ID != "" {
		b.out = appendTail(b.out, m.Stream, e.attrs, m.Time)
		return
	}
	if len(b.tail) == 0 {
		b.tail = appendTail(b.tail, m.Stream, e.attrs, m.Time)
	}
	b.out = append(b.out, b.tail...)
}

// appendTail appends what follows a line's text: closing quote, stream,
// attributes and time, up to and with the newline.
func appendTail(b []byte, s Stream, attrs []byte, at time.Time) []byte {
	b = append(b, `","stream":"`...)
	b = append(b, s.String()...)
	b = append(b, '"')
	if len(attrs) > 0 {
		b = append(b, `,"attrs":`...)
		b = append(b, attrs...)
	}
	b = append(b, `,"time":"`...)
	b = at.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, "\"}\n"...)
}

// appendEscaped appends text as the inside of a JSON string, byte for byte as
// Docker does: <, > and & are escaped, and so is what is no UTF-8.
func appendEscaped(b, text []byte) []byte {
	from := 0
	for i := 0; i < len(text); {
		if len(text)-i >= 8 {
			n := plain(binary.LittleEndian.Uint64(text[i:]))
			if i += n; n == 8 {
				continue
			}
		}
		c := text[i]
		if c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' {
			i++
			continue
		}
		size := 1
		if c >= utf8.RuneSelf {
			var r rune
			r, size = utf8.DecodeRune(text[i:])
			if (r != utf8.RuneError || size > 1) && r != '\u2028' && r != '\u2029' {
				i += size
				continue
			}
		}
		b = append(b, text[from:i]...)
		b = appendEscape(b, text[i:i+size])
		i += size
		from = i
	}
	return append(b, text[from:]...)
}

// appendEscape appends the escape of one character that needs one.
func appendEscape(b, char []byte) []byte {
	switch c := char[0]; {
	case c == '"' || c == '\\':
		return append(b, '\\', c)
	case c == '\n':
		return append(b, `\n`...)
	case c == '\r':
		return append(b, `\r`...)
	case c < utf8.RuneSelf:
		return append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
	case len(char) == 1: // no UTF-8
		return append(b, `\ufffd`...)
	}
	return append(b, '\\', 'u', '2', '0', '2', hex[char[len(char)-1]&15]) // U+2028, U+2029
}

// plain returns how many of the first of eight bytes need no escape: each is
// at least 0x20, below 0x80, and none of " & < > \.
func plain(v uint64) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	// A byte's highest bit is set where it is bad. A borrow reaches only bytes
	// after a bad one, so the lowest bit that is set is right.
	bad := v                     // 0x80 and above
	bad |= v - ones*0x20         // below 0x20
	bad |= (v ^ ones*'"') - ones // zero after the exclusive or
	bad |= (v ^ ones*'&') - ones
	bad |= (v&^(ones*2) ^ ones*'<') - ones // < and > differ in one bit
	bad |= (v ^ ones*'\\') - ones
	return bits.TrailingZeros64(bad&highs) / 8
}

// encodeAttrs returns attrs as a JSON object, keys in order; nil if there are
// none.
func encodeAttrs(attrs map[string]string) ([]byte, error) {
	if len(attrs) == 0 {
		return nil, nil
	}
	return json.Marshal(attrs)
}

// String returns the stream's name in the log.
func (s Stream) String() string {
	if s == Stderr {
		return "stderr"
	}
	return "stdout"
}
