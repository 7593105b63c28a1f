package logs

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const hex = "0123456789abcdef"

// jsonEncoder writes FormatJSON.
type jsonEncoder struct{ attrs []byte }

func (e jsonEncoder) append(b *Buffer, m *Message) {
	line := m.Line
	b.out = append(b.out, begin...)
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

// begin is what a message begins with.
const begin = `{"log":"`

// lines implements encoder.
func (e jsonEncoder) lines(b *Buffer, stream Stream, at time.Time, data []byte, most int) (used int) {
	if len(b.tail) == 0 {
		b.tail = appendTail(b.tail, stream, e.attrs, at)
	}
	out := b.out
	for len(out) < most {
		text := data[used:min(len(data), used+maxLine)]
		whole := len(out)
		line, n := appendLine(append(out, begin...), text)
		if n == len(text) { // no newline ends it, or it is too long for one message
			out = line[:whole]
			break
		}
		out = append(append(line, `\n`...), b.tail...)
		used += n + 1
	}
	b.out = out
	return used
}

// appendEscaped appends text as the inside of a JSON string, byte for byte as
// Docker does: <, > and & are escaped, and so is what is no UTF-8.
func appendEscaped(b, text []byte) []byte {
	for {
		var n int
		if b, n = appendLine(b, text); n == len(text) {
			return b
		}
		b, text = append(b, `\n`...), text[n+1:]
	}
}

// near is how far appendLine looks byte by byte after what quote leaves to it,
// before it tries quote again: where there is one such character there are often
// others.
const near = 16

// appendLine is appendEscaped for the first line of text, without its newline,
// and returns how long that is.
func appendLine(b, text []byte) ([]byte, int) {
	for i := 0; i < len(text); {
		b = slices.Grow(b, 2*(len(text)-i)+near)
		wrote, read := quote(b[len(b):cap(b)], text[i:])
		b = b[:len(b)+wrote]
		if i += read; i < len(text) && text[i] == '\n' {
			return b, i
		}
		n := clean(text[i:])
		b = append(b, text[i:i+n]...)
		if i += n; i == len(text) || safe[text[i]] {
			continue
		}
		if text[i] == '\n' {
			return b, i
		}
		n = charLen(text[i:])
		b = appendEscape(b, text[i:i+n])
		i += n
	}
	return b, len(text)
}

// clean returns how many bytes at the begin of text need no escape, as far as it
// looks: that is until near characters of ASCII come in a row.
func clean(text []byte) int {
	i := 0
	for stop := near; i < min(stop, len(text)); {
		switch c := text[i]; {
		case safe[c]:
			i++
		case c < utf8.RuneSelf:
			return i
		default:
			r, size := utf8.DecodeRune(text[i:])
			if r == utf8.RuneError && size == 1 || r == '\u2028' || r == '\u2029' {
				return i
			}
			i += size
			stop = i + near
		}
	}
	return i
}

// charLen is the length of the character at the begin of text, which is not
// empty; 1 if it is no UTF-8.
func charLen(text []byte) int {
	if text[0] < utf8.RuneSelf {
		return 1
	}
	_, n := utf8.DecodeRune(text)
	return n
}

// safe says which bytes need no escape, whatever comes before or after them.
var safe = func() (t [256]bool) {
	for c := byte(0x20); c < utf8.RuneSelf; c++ {
		t[c] = !strings.ContainsRune("\"\\<>&", rune(c))
	}
	return t
}()

// appendEscape appends the escape of one character that needs one.
func appendEscape(b, char []byte) []byte {
	switch c := char[0]; {
	case c == '"' || c == '\\':
		return append(b, '\\', c)
	case c == '\r':
		return append(b, `\r`...)
	case c < utf8.RuneSelf:
		return append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
	case len(char) == 1: // no UTF-8
		return append(b, `\ufffd`...)
	}
	return append(b, '\\', 'u', '2', '0', '2', hex[char[len(char)-1]&15]) // U+2028, U+2029
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
