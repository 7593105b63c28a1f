package decode

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
	"unicode/utf8"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Shape says how a type is decoded. A type is looked at when the first value of
// it comes: most specifications have a few of the many parts that they may have.
type Shape struct {
	t    reflect.Type
	look sync.Once

	kind   reflect.Kind // Invalid: by encoding/json
	elem   *Shape       // of a pointer or slice
	fields []field      // of a struct
}

type field struct {
	name  string
	index int
	shape Shape
}

// foreign are the parts of a specification that are not for Linux, or rare.
var foreign = sync.OnceValue(func() map[reflect.Type]bool {
	return map[reflect.Type]bool{
		reflect.TypeFor[specs.Windows](): true, reflect.TypeFor[specs.Solaris](): true, reflect.TypeFor[specs.VM](): true, reflect.TypeFor[specs.ZOS](): true,
		reflect.TypeFor[specs.Hooks](): true, reflect.TypeFor[specs.LinuxIntelRdt](): true,
		reflect.TypeFor[specs.LinuxBlockIO](): true, reflect.TypeFor[specs.Scheduler](): true,
	}
})

// marshals reports whether a type may have its own way to be decoded. One
// without a name has no methods.
func marshals(t reflect.Type) bool {
	return t.PkgPath() != "" && reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]())
}

// known is how the type is decoded: the shape, complete.
func (s *Shape) known() *Shape {
	s.look.Do(s.learn)
	return s
}

func (s *Shape) learn() {
	t := s.t
	if foreign()[t] || marshals(t) {
		return
	}
	switch k := t.Kind(); k {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		s.kind = k
	case reflect.Pointer:
		s.kind, s.elem = k, &Shape{t: t.Elem()}
	case reflect.Slice:
		if t.Elem().Kind() != reflect.Uint8 { // base64
			s.kind, s.elem = k, &Shape{t: t.Elem()}
		}
	case reflect.Map:
		if t == reflect.TypeFor[map[string]string]() {
			s.kind = k
		}
	case reflect.Struct:
		s.learnFields()
	}
}

func (s *Shape) learnFields() {
	fields := make([]field, s.t.NumField())
	for i := range fields {
		f := s.t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || name == "" || name == "-" || strings.Contains(options, "string") {
			return
		}
		fields[i].name, fields[i].index, fields[i].shape.t = name, i, f.Type
	}
	s.kind, s.fields = reflect.Struct, fields
}

// Of returns the shape of a type.
func Of[T any]() *Shape { return &Shape{t: reflect.TypeFor[T]()} }

// Decode decodes JSON into msg, a pointer to a zero value of the shape's type.
// Errors: those of json.Unmarshal.
func (s *Shape) Decode(body []byte, msg any) error {
	if s.Quick(body, msg) {
		return nil
	}
	reflect.ValueOf(msg).Elem().SetZero()
	return json.Unmarshal(body, msg)
}

// Quick is Decode without the help of encoding/json for the whole; it reports
// whether it could do without. If not, msg holds a part.
func (s *Shape) Quick(body []byte, msg any) bool {
	d := decoder{b: body}
	if !d.value(reflect.ValueOf(msg).Elem(), s) {
		return false
	}
	d.space()
	return d.at == len(body)
}

// decoder reads JSON. Its methods report whether they could.
type decoder struct {
	b  []byte
	at int
}

// skip passes c, if it is the next but for spaces.
func (d *decoder) skip(c byte) bool {
	d.space()
	if d.at < len(d.b) && d.b[d.at] == c {
		d.at++
		return true
	}
	return false
}

// space passes what may stand between any two parts.
func (d *decoder) space() {
	for d.at < len(d.b) {
		switch d.b[d.at] {
		case ' ', '\t', '\n', '\r':
			d.at++
		default:
			return
		}
	}
}

// word passes a literal.
func (d *decoder) word(w string) bool {
	if len(d.b)-d.at >= len(w) && string(d.b[d.at:d.at+len(w)]) == w {
		d.at += len(w)
		return true
	}
	return false
}

func (d *decoder) value(v reflect.Value, s *Shape) bool {
	d.space()
	switch s.known().kind {
	case reflect.Invalid:
		from := d.at
		return d.pass() && json.Unmarshal(d.b[from:d.at], v.Addr().Interface()) == nil
	case reflect.String:
		t, ok := d.text()
		if ok {
			v.SetString(string(t))
		}
		return ok
	case reflect.Bool:
		if d.word("true") {
			v.SetBool(true)
			return true
		}
		return d.word("false")
	case reflect.Pointer:
		if d.word("null") {
			return true
		}
		v.Set(reflect.New(v.Type().Elem()))
		return d.value(v.Elem(), s.elem)
	case reflect.Slice:
		return d.slice(v, s.elem)
	case reflect.Map:
		return d.dictionary(v)
	case reflect.Struct:
		return d.structure(v, s.fields)
	}
	return d.number(v)
}

// text returns a string's bytes.
func (d *decoder) text() ([]byte, bool) {
	if !d.skip('"') {
		return nil, false
	}
	from, ascii := d.at, true
	for ; d.at < len(d.b); d.at++ {
		switch c := d.b[d.at]; {
		case c == '"':
			t := d.b[from:d.at]
			d.at++
			return t, ascii || utf8.Valid(t)
		case c == '\\':
			return d.escaped(from - 1)
		case c < ' ':
			return nil, false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return nil, false
}

// escaped is text for a string with escapes that begins at from.
func (d *decoder) escaped(from int) ([]byte, bool) {
	d.at = from
	var s string
	if !d.pass() || json.Unmarshal(d.b[from:d.at], &s) != nil {
		return nil, false
	}
	return []byte(s), true
}

func (d *decoder) number(v reflect.Value) bool {
	negative := d.skip('-')
	from, n := d.at, uint64(0)
	for ; d.at < len(d.b) && d.b[d.at]-'0' <= 9; d.at++ {
		if d.at-from > 17 { // it might not fit
			return false
		}
		n = 10*n + uint64(d.b[d.at]-'0')
	}
	if d.at == from || d.at-from > 1 && d.b[from] == '0' {
		return false
	}
	if v.CanUint() {
		v.SetUint(n)
		return !negative && !v.OverflowUint(n)
	}
	i := int64(n)
	if negative {
		i = -i
	}
	v.SetInt(i)
	return !v.OverflowInt(i)
}

// list passes a sequence between two brackets, of which item passes one.
func (d *decoder) list(open, end byte, item func() bool) bool {
	if !d.skip(open) {
		return false
	}
	if d.skip(end) {
		return true
	}
	for item() {
		if d.skip(end) {
			return true
		}
		if !d.skip(',') {
			return false
		}
	}
	return false
}

func (d *decoder) slice(v reflect.Value, elem *Shape) bool {
	if d.word("null") {
		return true
	}
	if l, ok := v.Addr().Interface().(*[]string); ok {
		return d.strings(l)
	}
	v.Set(reflect.MakeSlice(v.Type(), 0, 0)) // empty, not nil
	return d.list('[', ']', func() bool {
		n := v.Len()
		if n == v.Cap() {
			v.Grow(max(n, 8))
		}
		v.SetLen(n + 1)
		return d.value(v.Index(n), elem)
	})
}

// strings is slice for the most frequent kind: a filter names hundreds of calls.
func (d *decoder) strings(l *[]string) bool {
	end := max(bytes.IndexByte(d.b[d.at:], ']'), 0)
	size := bytes.Count(d.b[d.at:d.at+end], []byte(`",`)) + 1 // about
	*l = make([]string, 0, min(size, 1024))
	return d.list('[', ']', func() bool {
		t, ok := d.text()
		*l = append(*l, string(t))
		return ok
	})
}

func (d *decoder) dictionary(v reflect.Value) bool {
	if d.word("null") {
		return true
	}
	m := map[string]string{}
	v.Set(reflect.ValueOf(m))
	return d.list('{', '}', func() bool {
		k, ok := d.text()
		if !ok || !d.skip(':') {
			return false
		}
		key := string(k)
		value, ok := d.text()
		m[key] = string(value)
		return ok
	})
}

func (d *decoder) structure(v reflect.Value, fields []field) bool {
	next := 0 // fields come in order
	return d.list('{', '}', func() bool {
		key, ok := d.text()
		if !ok || !d.skip(':') {
			return false
		}
		for i := range fields {
			f := &fields[(next+i)%len(fields)]
			if f.name == string(key) {
				next += i + 1
				return d.value(v.Field(f.index), &f.shape)
			}
		}
		return false
	})
}

// pass passes a value of any kind.
func (d *decoder) pass() bool {
	depth := 0
	for d.at < len(d.b) {
		switch d.b[d.at] {
		case '"':
			for d.at++; d.at < len(d.b) && d.b[d.at] != '"'; d.at++ {
				if d.b[d.at] == '\\' {
					d.at++
				}
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 { // the end of what is around a number or a word
				return true
			}
			depth--
		case ',':
			if depth == 0 {
				return true
			}
			d.at++
			continue
		default: // of a number, a word, or between values
			d.at++
			if depth == 0 && d.at < len(d.b) && (d.b[d.at] == ',' || d.b[d.at] == '}' || d.b[d.at] == ']') {
				return true
			}
			continue
		}
		d.at++
		if depth == 0 {
			return true
		}
	}
	return d.at == len(d.b) && depth == 0
}
