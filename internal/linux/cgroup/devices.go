package cgroup

import (
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
)

// Bits of access to a device, as BPF_DEVCG_ACC_*.
const (
	accessMknod = 1 << iota
	accessRead
	accessWrite
	accessAll = accessMknod | accessRead | accessWrite
)

// deviceRule is one rule; anyNumber stands for every major or minor.
type deviceRule struct {
	typ          byte // 'a', 'b' or 'c'
	major, minor int64
	access       uint8
	allow        bool
}

const anyNumber = -1

// all reports whether the rule decides every access to every device.
func (r deviceRule) all() bool {
	return r.typ == 'a' && r.major == anyNumber && r.minor == anyNumber && r.access == accessAll
}

// covers reports whether o's devices are among r's.
func (r deviceRule) covers(o deviceRule) bool {
	return (r.typ == 'a' || r.typ == o.typ) &&
		(r.major == anyNumber || r.major == o.major) && (r.minor == anyNumber || r.minor == o.minor)
}

// meets reports whether some device is both r's and o's.
func (r deviceRule) meets(o deviceRule) bool {
	same := func(a, b int64) bool { return a == b || a == anyNumber || b == anyNumber }
	return (r.typ == o.typ || r.typ == 'a' || o.typ == 'a') && same(r.major, o.major) && same(r.minor, o.minor)
}

// String writes the rule as the v1 files take it: "c 1:3 rwm".
func (r deviceRule) String() string {
	if r.all() {
		return "a"
	}
	num := func(n int64) string {
		if n == anyNumber {
			return "*"
		}
		return itoa(n)
	}
	access := ""
	for _, a := range []struct {
		bit  uint8
		name string
	}{{accessRead, "r"}, {accessWrite, "w"}, {accessMknod, "m"}} {
		if r.access&a.bit != 0 {
			access += a.name
		}
	}
	return string(r.typ) + " " + num(r.major) + ":" + num(r.minor) + " " + access
}

// devicePolicy is a list of rules of which the last that names an access
// decides it; what no rule names is denied.
type devicePolicy struct{ rules []deviceRule }

func newDevicePolicy(in []specs.LinuxDeviceCgroup) (*devicePolicy, error) {
	p := &devicePolicy{}
	for _, d := range in {
		r := deviceRule{typ: 'a', major: anyNumber, minor: anyNumber, allow: d.Allow}
		switch d.Type {
		case "", "a":
		case "b", "c":
			r.typ = d.Type[0]
		case "u":
			r.typ = 'c'
		default:
			return nil, errdefs.Invalidf("invalid device type %q", d.Type)
		}
		if d.Major != nil {
			r.major = *d.Major
		}
		if d.Minor != nil {
			r.minor = *d.Minor
		}
		if r.major < anyNumber || r.minor < anyNumber || r.major > 1<<20 || r.minor > 1<<20 {
			return nil, errdefs.Invalidf("invalid device number %d:%d", r.major, r.minor)
		}
		for _, c := range d.Access {
			switch c {
			case 'r':
				r.access |= accessRead
			case 'w':
				r.access |= accessWrite
			case 'm':
				r.access |= accessMknod
			default:
				return nil, errdefs.Invalidf("invalid device access %q", d.Access)
			}
		}
		if d.Access == "" {
			r.access = accessAll
		}
		if r.all() { // nothing before it matters
			p.rules = p.rules[:0]
		}
		p.rules = append(p.rules, r)
	}
	return p, nil
}

// DefaultDevices are the rules that every container needs after one that
// denies all: making any node is allowed (opening it is another matter), and
// the devices of its own /dev. A runtime adds them to a specification that may
// not have them.
//
// Source: the OCI runtime specification, config-linux.md, "Default Devices".
func DefaultDevices() []specs.LinuxDeviceCgroup {
	rules := []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Access: "m"}, {Allow: true, Type: "b", Access: "m"}}
	for _, d := range [][2]int64{
		{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, // null zero full random urandom
		{5, 0}, {5, 1}, {5, 2}, // tty console ptmx
	} {
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &d[0], Minor: &d[1], Access: "rwm"})
	}
	pts := int64(136) // UNIX98 pseudo-terminals
	return append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &pts, Access: "rwm"})
}

// allowsAll reports whether the policy restricts nothing.
func (p *devicePolicy) allowsAll() bool {
	return len(p.rules) > 0 && p.rules[0].all() && !slices.ContainsFunc(p.rules, func(r deviceRule) bool { return !r.allow })
}

// whitelist is the form that version 1 knows: a default for every device, and
// exceptions from it.
//
// Source: Documentation/admin-guide/cgroup-v1/devices.rst.
type whitelist struct {
	allow      bool // the default
	exceptions []deviceRule
}

// whitelist reduces the rules. A rule that takes back a part of an exception's
// devices cannot be expressed. Errors: Invalid.
func (p *devicePolicy) whitelist() (*whitelist, error) {
	w := &whitelist{}
	for _, r := range p.rules {
		switch {
		case r.all():
			w.allow, w.exceptions = r.allow, nil
		case r.typ == 'a':
			for _, t := range []byte{'b', 'c'} {
				half := r
				half.typ = t
				if err := w.add(half); err != nil {
					return nil, err
				}
			}
		default:
			if err := w.add(r); err != nil {
				return nil, err
			}
		}
	}
	return w, nil
}

func (w *whitelist) add(r deviceRule) error {
	if r.allow == w.allow { // back to the default
		for i := range w.exceptions {
			e := &w.exceptions[i]
			if r.covers(*e) {
				e.access &^= r.access
			} else if e.meets(r) && e.access&r.access != 0 {
				return errdefs.Invalidf("device rule %q cannot be taken out of %q with control groups version 1", r, e)
			}
		}
		w.exceptions = slices.DeleteFunc(w.exceptions, func(e deviceRule) bool { return e.access == 0 })
		return nil
	}
	for i := range w.exceptions {
		if e := &w.exceptions[i]; e.typ == r.typ && e.major == r.major && e.minor == r.minor {
			e.access |= r.access
			return nil
		}
	}
	w.exceptions = append(w.exceptions, r)
	return nil
}

// access returns the bits that w's exceptions give to exactly r's devices.
func (w *whitelist) access(r deviceRule) (bits uint8) {
	for _, e := range w.exceptions {
		if e.typ == r.typ && e.major == r.major && e.minor == r.minor {
			bits |= e.access
		}
	}
	return bits
}

// setDevicesV1 writes the policy. A fresh group has its parent's. In a group
// in use, what is added is allowed before what is removed is denied, so that no
// access that both policies allow ever fails.
func (g *Group) setDevicesV1(m *hierarchy, p *devicePolicy, fresh bool) error {
	want, err := p.whitelist()
	if err != nil {
		return err
	}
	file := map[bool]string{true: "devices.allow", false: "devices.deny"}
	var list []setting
	put := func(allow bool, r deviceRule) {
		list = append(list, setting{m: m, file: file[allow], value: r.String()})
	}
	all := deviceRule{typ: 'a', major: anyNumber, minor: anyNumber, access: accessAll}
	have := &whitelist{allow: true}
	if !fresh {
		content, err := m.read(g.path, "devices.list")
		if err != nil {
			return g.missing(m, err)
		}
		have = parseDevicesList(content)
	}
	switch {
	case want.allow && fresh: // what the parent allows is all that can be allowed
	case want.allow != have.allow || want.allow:
		put(want.allow, all)
		have = &whitelist{allow: want.allow}
	}
	for _, e := range want.exceptions {
		if missing := e.access &^ have.access(e); missing != 0 {
			e.access = missing
			put(!want.allow, e)
		}
	}
	for _, e := range have.exceptions {
		if surplus := e.access &^ want.access(e); surplus != 0 {
			e.access = surplus
			put(want.allow, e)
		}
	}
	return g.writeAll(m, list)
}

// writeAll writes settings of one hierarchy, opening each file once per run.
func (g *Group) writeAll(m *hierarchy, list []setting) error {
	for len(list) > 0 {
		n := slices.IndexFunc(list, func(s setting) bool { return s.file != list[0].file })
		if n < 0 {
			n = len(list)
		}
		values := make([]string, n)
		for i, s := range list[:n] {
			values[i] = s.value
		}
		if i, err := m.writeMany(g.path, list[0].file, values); err != nil {
			return g.refused(list[i], err)
		}
		list = list[n:]
	}
	return nil
}

// parseDevicesList reads devices.list. A group whose default is to allow shows
// that alone, without its exceptions.
func parseDevicesList(content string) *whitelist {
	w := &whitelist{}
	num := func(s string) int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return anyNumber
		}
		return n
	}
	for line := range strings.Lines(content) {
		f := strings.Fields(line)
		if len(f) != 3 || len(f[0]) != 1 {
			continue
		}
		if f[0] == "a" {
			return &whitelist{allow: true}
		}
		major, minor, _ := strings.Cut(f[1], ":")
		r := deviceRule{typ: f[0][0], major: num(major), minor: num(minor), allow: true}
		for i, bit := range []uint8{accessMknod, accessRead, accessWrite} {
			if strings.Contains(f[2], string("mrw"[i])) {
				r.access |= bit
			}
		}
		w.exceptions = append(w.exceptions, r)
	}
	return w
}
