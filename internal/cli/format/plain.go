package format

import (
	"bytes"
	"io"
	"strings"
)

// plain is a format that prints fields and what stands between them, as most do:
// it needs no template, which would take longer than all the rest of a list.
type plain struct {
	isTable bool
	between []string // before each field, and behind the last
	fields  []string
}

// plainOf reads a format; ok is false for one that asks for more. A field that the
// header does not have is left to the template, which knows what to say of it.
func plainOf(format string, header Header) (p plain, ok bool) {
	rest, isTable := bodyOf(format)
	p.isTable = isTable
	for {
		before, after, found := strings.Cut(rest, "{{")
		p.between = append(p.between, before)
		if !found {
			return p, true
		}
		action, after, closed := strings.Cut(after, "}}")
		name, isField := strings.CutPrefix(strings.TrimSpace(action), ".")
		if _, known := header[name]; !closed || !isField || !known {
			return p, false
		}
		p.fields = append(p.fields, name)
		rest = after
	}
}

// fits reports whether all that is to be printed is text, or nothing.
func (p plain) fits(rows []Row) bool {
	for _, r := range rows {
		for _, f := range p.fields {
			v, there := r[f]
			if _, isText := v.(string); !there || v != nil && !isText {
				return false
			}
		}
	}
	return true
}

// write prints rows that fit.
func (p plain) write(out io.Writer, header Header, rows []Row) error {
	var b, h bytes.Buffer
	for _, r := range rows {
		p.line(&b, func(f string) string {
			if s, ok := r[f].(string); ok {
				return s
			}
			return "<no value>" // the template's word
		})
	}
	if !p.isTable {
		_, err := b.WriteTo(out)
		return err
	}
	p.line(&h, func(f string) string { return header[f] })
	return writeTable(out, h.Bytes(), b.Bytes())
}

func (p plain) line(b *bytes.Buffer, value func(field string) string) {
	for i, f := range p.fields {
		b.WriteString(p.between[i])
		b.WriteString(value(f))
	}
	b.WriteString(p.between[len(p.fields)])
	b.WriteByte('\n')
}
