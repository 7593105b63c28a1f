package logs

import (
	"encoding/json"
	"strings"
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

// lines implements encoder.
func (e jsonEncoder) lines(b *Buffer, stream Stream, at time.Time, data []byte, most int) (used int) {
	if len(b.tail) == 0 {
		b.tail = appendTail(b.tail, stream, e.attrs, at)
	}
	for len(b.out) < most {
		begun := len(b.out)
		b.out = append(b.out, `{"log":"`...)
		n := b.line(data[used:])
		if n == 0 {
			b.out = b.out[:begun]
			break
		}
		b.out = append(b.out, `\n`...)
		b.out = append(b.out, b.tail...)
		used += n
	}
	return used
}

// line appends the first line of text, escaped and without its newline, and
// returns its length; 0 if no newline ends it, or if it is too long for one
// message.
func (b *Buffer) line(text []byte) int {
	for from, i := 0, 0; ; {
		if i += clean(text[i:]); i >= min(len(text), maxLine) {
			return 0
		}
		b.out = append(b.out, text[from:i]...)
		if text[i] == '\n' {
			return i + 1
		}
		n := charLen(text[i:])
		b.out = appendEscape(b.out, text[i:i+n])
		i += n
		from = i
	}
}

// appendEscaped appends text as the inside of a JSON string, byte for byte as
// Docker does: <, > and & are escaped, and so is what is no UTF-8.
func appendEscaped(b, text []byte) []byte {
	for {
		n := clean(text)
		b = append(b, text[:n]...)
		if text = text[n:]; len(text) == 0 {
			return b
		}
		n = charLen(text)
		b = appendEscape(b, text[:n])
		text = text[n:]
	}
}

// near is how far clean looks byte by byte before it looks at many at a time:
// where there is one character to escape, often there are others.
const near = 16

// clean returns how many bytes at the begin of text need no escape.
func clean(text []byte) int {
	i := 0
	for stop := near; i < len(text); {
		switch c := text[i]; {
		case safe[c]:
			if i++; i == stop {
				i += plain(text[i:])
				stop = i + near
			}
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

// safe says which bytes need no escape, whatever comes before or after them.
var safe = func() (t [256]bool) {
	for c := byte(0x20); c < utf8.RuneSelf; c++ {
		t[c] = !strings.ContainsRune("\"\\<>&", rune(c))
	}
	return t
}()

// charLen is the length of the character at the begin of text, which is not
// empty; 1 if it is no UTF-8.
func charLen(text []byte) int {
	if text[0] < utf8.RuneSelf {
		return 1
	}
	_, n := utf8.DecodeRune(text)
	return n
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
