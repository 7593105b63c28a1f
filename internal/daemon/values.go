package daemon

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

// The types below are values of options: pflag calls Set with what stands
// after a flag, the reader of the file calls UnmarshalJSON.

// Set reads an amount with an optional unit, such as 64m.
func (b *Bytes) Set(s string) error {
	n, err := units.RAMInBytes(s)
	if err != nil {
		return err
	}
	*b = Bytes(n)
	return nil
}

// String returns the amount with a unit.
func (b *Bytes) String() string {
	if *b == 0 {
		return "0"
	}
	return units.BytesSize(float64(*b))
}

// Type names the value in the usage message.
func (b *Bytes) Type() string { return "bytes" }

// UnmarshalJSON reads a number of bytes or a text with a unit.
func (b *Bytes) UnmarshalJSON(raw []byte) error {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return b.Set(s)
	}
	var n int64
	if err := json.Unmarshal(raw, &n); err != nil {
		return err
	}
	*b = Bytes(n)
	return nil
}

// seconds is a duration that is given as a number of seconds.
type seconds struct{ d *time.Duration }

func (s seconds) Set(v string) error {
	n, err := strconv.Atoi(v)
	if err != nil {
		return err
	}
	*s.d = time.Duration(n) * time.Second
	return nil
}
func (s seconds) String() string {
	if s.d == nil {
		return "0"
	}
	return strconv.Itoa(int(*s.d / time.Second))
}
func (s seconds) Type() string { return "int" }
func (s seconds) UnmarshalJSON(raw []byte) error {
	var n int
	if err := json.Unmarshal(raw, &n); err != nil {
		return err
	}
	*s.d = time.Duration(n) * time.Second
	return nil
}

// pairs is a map that is given as key=value, several times.
type pairs struct{ m *map[string]string }

func (p pairs) Set(v string) error {
	key, value, ok := strings.Cut(v, "=")
	if !ok {
		return errdefs.Invalidf("invalid key/value pair %q: must be key=value", v)
	}
	if *p.m == nil {
		*p.m = make(map[string]string)
	}
	(*p.m)[key] = value
	return nil
}
func (p pairs) String() string {
	if p.m == nil {
		return ""
	}
	return fmt.Sprint(*p.m)
}
func (p pairs) Type() string                   { return "map" }
func (p pairs) UnmarshalJSON(raw []byte) error { return json.Unmarshal(raw, p.m) }

// switches is a map of names that are on or off, given as name or name=bool.
type switches struct{ m *map[string]bool }

func (s switches) Set(v string) error {
	name, value, ok := strings.Cut(v, "=")
	on := true
	if ok {
		var err error
		if on, err = strconv.ParseBool(value); err != nil {
			return errdefs.Invalidf("invalid feature %q: must be name=true or name=false", v)
		}
	}
	(*s.m)[name] = on
	return nil
}
func (s switches) String() string {
	if s.m == nil {
		return ""
	}
	return fmt.Sprint(*s.m)
}
func (s switches) Type() string                   { return "map" }
func (s switches) UnmarshalJSON(raw []byte) error { return json.Unmarshal(raw, s.m) }

// ulimits are given as name=soft[:hard].
type ulimits struct{ m *map[string]*container.Ulimit }

func (u ulimits) Set(v string) error {
	l, err := units.ParseUlimit(v)
	if err != nil {
		return err
	}
	(*u.m)[l.Name] = l
	return nil
}
func (u ulimits) String() string {
	if u.m == nil {
		return "[]"
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(*u.m)) {
		out = append(out, (*u.m)[name].String())
	}
	return fmt.Sprint(out)
}
func (u ulimits) Type() string { return "ulimit" }
func (u ulimits) UnmarshalJSON(raw []byte) error {
	if err := json.Unmarshal(raw, u.m); err != nil {
		return err
	}
	for name, l := range *u.m {
		if l == nil {
			return errdefs.Invalidf("invalid ulimit %q: null", name)
		}
		l.Name = name
	}
	return nil
}

// runtimes are given as name=path.
type runtimes struct{ m *map[string]Runtime }

func (r runtimes) Set(v string) error {
	name, path, ok := strings.Cut(v, "=")
	if !ok || name == "" || path == "" {
		return errdefs.Invalidf("invalid runtime argument: %s", v)
	}
	name = strings.ToLower(strings.TrimSpace(name))
	if _, dup := (*r.m)[name]; dup {
		return errdefs.Invalidf("runtime '%s' was already defined", name)
	}
	(*r.m)[name] = Runtime{Path: strings.TrimSpace(path)}
	return nil
}
func (r runtimes) String() string {
	if r.m == nil {
		return "[]"
	}
	return fmt.Sprint(slices.Sorted(maps.Keys(*r.m)))
}
func (r runtimes) Type() string                   { return "runtime" }
func (r runtimes) UnmarshalJSON(raw []byte) error { return json.Unmarshal(raw, r.m) }

// pools are given as base=prefix,size=n.
type pools struct{ list *[]AddressPool }

func (p pools) Set(v string) error {
	fields, err := csv.NewReader(strings.NewReader(v)).Read()
	if err != nil {
		return err
	}
	var pool AddressPool
	for _, f := range fields {
		key, value, _ := strings.Cut(strings.ToLower(f), "=")
		switch key {
		case "base":
			pool.Base = value
		case "size":
			if pool.Size, err = strconv.Atoi(value); err != nil {
				return errdefs.Invalidf("invalid size value: %q (must be integer): %w", value, err)
			}
		default:
			return errdefs.Invalidf("unexpected key '%s' in '%s'", key, f)
		}
	}
	*p.list = append(*p.list, pool)
	return nil
}
func (p pools) String() string {
	if p.list == nil {
		return ""
	}
	return fmt.Sprint(*p.list)
}
func (p pools) Type() string                   { return "pool-options" }
func (p pools) UnmarshalJSON(raw []byte) error { return json.Unmarshal(raw, p.list) }

// oneOf is a list of which the file says one.
type oneOf struct{ list *[]string }

// UnmarshalJSON reads a string.
func (o oneOf) UnmarshalJSON(raw []byte) error {
	var one string
	if err := json.Unmarshal(raw, &one); err != nil {
		return err
	}
	*o.list = []string{one}
	return nil
}

// networkOptions are options of networks by driver, given as driver=name=value.
type networkOptions struct {
	m *map[string]map[string]string
}

func (n networkOptions) Set(v string) error {
	driver, option, _ := strings.Cut(v, "=")
	name, value, ok := strings.Cut(option, "=")
	if !ok || driver == "" || name == "" {
		return errdefs.Invalidf("invalid default network option %q: must be driver=option=value", v)
	}
	if *n.m == nil {
		*n.m = map[string]map[string]string{}
	}
	if (*n.m)[driver] == nil {
		(*n.m)[driver] = map[string]string{}
	}
	(*n.m)[driver][name] = value
	return nil
}

func (n networkOptions) String() string {
	if n.m == nil || len(*n.m) == 0 {
		return ""
	}
	return fmt.Sprint(*n.m)
}
func (n networkOptions) Type() string                   { return "mapmap" }
func (n networkOptions) UnmarshalJSON(raw []byte) error { return json.Unmarshal(raw, n.m) }

// addrsOf parses addresses that were checked.
func addrsOf(list []string) (out []netip.Addr) {
	for _, s := range list {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, a)
		}
	}
	return out
}
