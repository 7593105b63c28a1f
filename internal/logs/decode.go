package logs

import (
	"bytes"
	"encoding/json"
	"time"
	"unicode/utf8"
)

// decoder turns lines of a log into messages. Its buffers are reused.
type decoder struct {
	text  []byte
	raw   []byte // the attributes that attrs was made from
	attrs map[string]string
	stamp []byte // the time that at was parsed from: lines that were read together share it
	at    time.Time
}

// decode decodes one line without its newline; ok is false if it is corrupt.
func (d *decoder) decode(line []byte) (m Message, ok bool) {
	if m, ok = d.fast(line); ok {
		return m, true
	}
	var r struct {
		Log    string            `json:"log"`
		Stream string            `json:"stream"`
		Attrs  map[string]string `json:"attrs"`
		Time   time.Time         `json:"time"`
	}
	if json.Unmarshal(line, &r) != nil {
		return Message{}, false
	}
	m.Stream, ok = stream([]byte(r.Stream))
	m.Time, m.Line, m.Attrs = r.Time, []byte(r.Log), r.Attrs
	return m, ok
}

// fast decodes what Writer wrote; everything else is left to encoding/json.
func (d *decoder) fast(line []byte) (m Message, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"log":"`))
	if !ok {
		return m, false
	}
	if rest, ok = d.unescape(rest); !ok {
		return m, false
	}
	m.Line = d.text
	if rest, ok = bytes.CutPrefix(rest, []byte(`,"stream":"`)); !ok || len(rest) < 6 {
		return m, false
	}
	if m.Stream, ok = stream(rest[:6]); !ok {
		return m, false
	}
	rest = rest[6:]
	if attrs, has := bytes.CutPrefix(rest, []byte(`","attrs":`)); has {
		end := bytes.LastIndex(attrs, []byte(`,"time":"`))
		if end < 0 || !d.parseAttrs(attrs[:end]) {
			return m, false
		}
		m.Attrs = d.attrs
		rest = attrs[end+len(`,"time":"`):]
	} else if rest, ok = bytes.CutPrefix(rest, []byte(`","time":"`)); !ok {
		return m, false
	}
	if rest, ok = bytes.CutSuffix(rest, []byte(`"}`)); !ok {
		return m, false
	}
	m.Time, ok = d.parseTime(rest)
	return m, ok
}

func (d *decoder) parseTime(stamp []byte) (time.Time, bool) {
	if bytes.Equal(stamp, d.stamp) {
		return d.at, true
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return at, false
	}
	d.stamp, d.at = append(d.stamp[:0], stamp...), at
	return at, true
}

func stream(name []byte) (Stream, bool) {
	switch string(name) {
	case "stdout":
		return Stdout, true
	case "stderr":
		return Stderr, true
	}
	return 0, false
}

func (d *decoder) parseAttrs(raw []byte) bool {
	if bytes.Equal(raw, d.raw) {
		return true
	}
	var attrs map[string]string
	if json.Unmarshal(raw, &attrs) != nil {
		return false
	}
	d.raw, d.attrs = append(d.raw[:0], raw...), attrs
	return true
}

// unescape reads the inside of a JSON string into d.text and returns what
// follows the closing quote.
func (d *decoder) unescape(s []byte) (rest []byte, ok bool) {
	d.text = d.text[:0]
	for {
		q := bytes.IndexByte(s, '"')
		if q < 0 {
			return nil, false
		}
		e := bytes.IndexByte(s[:q], '\\')
		if e < 0 {
			d.text = append(d.text, s[:q]...)
			return s[q+1:], true
		}
		d.text = append(d.text, s[:e]...)
		n := 2
		switch c := s[e+1]; c {
		case '"', '\\', '/':
			d.text = append(d.text, c)
		case 'n':
			d.text = append(d.text, '\n')
		case 'r':
			d.text = append(d.text, '\r')
		case 't':
			d.text = append(d.text, '\t')
		case 'u':
			r, ok := hex4(s[e+2:])
			if !ok || 0xd800 <= r && r < 0xe000 { // surrogates: not ours
				return nil, false
			}
			d.text = utf8.AppendRune(d.text, r)
			n = 6
		default:
			return nil, false
		}
		s = s[e+n:]
	}
}

func hex4(s []byte) (r rune, ok bool) {
	if len(s) < 4 {
		return 0, false
	}
	for _, c := range s[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
