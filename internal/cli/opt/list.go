package opt

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	moby "github.com/moby/moby/client"
)

// List is a flag that may be given several times.
type List struct {
	values []string
	check  func(string) (string, error)
}

// NewList makes a list whose elements pass check, which may rewrite them; nil
// takes everything.
func NewList(check func(string) (string, error)) *List { return &List{check: check} }

// Set appends one value.
func (l *List) Set(v string) error {
	if l.check != nil {
		w, err := l.check(v)
		if err != nil {
			return err
		}
		v = w
	}
	l.values = append(l.values, v)
	return nil
}

// String is what help shows as the default.
func (l *List) String() string {
	if len(l.values) == 0 {
		return ""
	}
	return fmt.Sprint(l.values)
}

// Type is "list".
func (*List) Type() string { return "list" }

// Values are the values in the order given; nil when there are none.
func (l *List) Values() []string { return l.values }

// OrEmpty is Values, but never nil.
func (l *List) OrEmpty() []string {
	if l.values == nil {
		return []string{}
	}
	return l.values
}

// Has reports whether v was given.
func (l *List) Has(v string) bool {
	for _, x := range l.values {
		if x == v {
			return true
		}
	}
	return false
}

// Map is a flag of key=value pairs; the last value of a key wins.
type Map struct {
	values map[string]string
	check  func(string) (string, error)
}

// NewMap makes a map whose pairs pass check; nil takes everything.
func NewMap(check func(string) (string, error)) *Map {
	return &Map{values: map[string]string{}, check: check}
}

// Set adds one pair; a value without "=" is a key with an empty value.
func (m *Map) Set(v string) error {
	if m.check != nil {
		w, err := m.check(v)
		if err != nil {
			return err
		}
		v = w
	}
	k, val, _ := strings.Cut(v, "=")
	m.values[k] = val
	return nil
}

// String is what help shows as the default.
func (m *Map) String() string { return fmt.Sprint(m.values) }

// Type is "map".
func (*Map) Type() string { return "map" }

// Values are the pairs; never nil.
func (m *Map) Values() map[string]string { return m.values }

// Filter collects name=value conditions in the API's form.
type Filter struct{ values moby.Filters }

// Set adds one condition; the empty string adds none.
func (f *Filter) Set(v string) error {
	if v == "" {
		return nil
	}
	name, val, ok := strings.Cut(v, "=")
	if !ok {
		return errors.New("bad format of filter (expected name=value)")
	}
	f.Add(strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(val))
	return nil
}

// Add adds a condition.
func (f *Filter) Add(name, value string) {
	if f.values == nil {
		f.values = moby.Filters{}
	}
	f.values.Add(name, value)
}

// String is the API's JSON form.
func (f *Filter) String() string { return FilterText(f.values) }

// FilterText is conditions in the API's form, "" without any.
func FilterText(f moby.Filters) string {
	if len(f) == 0 {
		return ""
	}
	b, err := json.Marshal(f)
	if err != nil {
		return "invalid filters"
	}
	return string(b)
}

// Type is "filter".
func (*Filter) Type() string { return "filter" }

// Values are the conditions; nil when there are none.
func (f *Filter) Values() moby.Filters { return f.values }

// Pairs turns ["k=v"] into {"k": "v"}; never nil.
func Pairs(values []string) map[string]string {
	m := make(map[string]string, len(values))
	for _, v := range values {
		k, val, _ := strings.Cut(v, "=")
		m[k] = val
	}
	return m
}

// Clone is an independent copy.
func (f *Filter) Clone() *Filter { return &Filter{values: f.values.Clone()} }
