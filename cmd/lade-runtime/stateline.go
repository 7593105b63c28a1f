package main

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// line is the state as JSON, as json.Marshal writes it (TestLine): to prepare
// encoding/json for one object and a time takes longer than all else that a
// container's directory takes.
func (c *container) line() []byte {
	o := object{b: make([]byte, 0, 1024)}
	o.text("ociVersion", c.Version)
	o.text("id", c.ID)
	o.text("status", string(c.Status))
	if c.Pid != 0 {
		o.number("pid", uint64(c.Pid))
	}
	o.text("bundle", c.Bundle)
	if len(c.Annotations) > 0 {
		o.key("annotations")
		a := object{b: o.b}
		for _, k := range slices.Sorted(maps.Keys(c.Annotations)) {
			a.text(k, c.Annotations[k])
		}
		o.b = a.end()
	}
	o.text("rootfs", c.Rootfs)
	o.text("created", c.Created.Format(time.RFC3339Nano))
	o.number("init_process_start", c.StartTime)
	o.text("cgroup_path", c.Cgroup)
	if c.Scope != "" {
		o.text("systemd_scope", c.Scope)
	}
	o.key("creator")
	creator := object{b: o.b}
	creator.number("pid", uint64(c.Creator.Pid))
	creator.number("start_time", c.Creator.StartTime)
	o.b = creator.end()
	o.flag("hooked", c.Hooked)
	if len(c.Resctrl) > 0 {
		o.key("resctrl")
		separator := byte('[')
		for _, dir := range c.Resctrl {
			o.b = quoted(append(o.b, separator), dir)
			separator = ','
		}
		o.b = append(o.b, ']')
	}
	o.flag("no_process", c.NoProcess)
	o.flag("own_root", c.OwnRoot)
	o.key("own_pid_namespace")
	o.b = strconv.AppendBool(o.b, c.OwnPidNS)
	return o.end()
}

// object writes an object of JSON behind what is in b.
type object struct {
	b    []byte
	some bool
}

func (o *object) key(k string) {
	separator := byte('{')
	if o.some {
		separator = ','
	}
	o.some = true
	o.b = append(quoted(append(o.b, separator), k), ':')
}

func (o *object) text(k, v string) {
	o.key(k)
	o.b = quoted(o.b, v)
}

func (o *object) number(k string, v uint64) {
	o.key(k)
	o.b = strconv.AppendUint(o.b, v, 10)
}

// flag writes a member that is left out when it is false.
func (o *object) flag(k string, v bool) {
	if v {
		o.key(k)
		o.b = append(o.b, "true"...)
	}
}

func (o *object) end() []byte { return append(o.b, '}') }

// quoted appends a string of JSON. Whatever needs an escape encoding/json writes.
func quoted(b []byte, s string) []byte {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' || strings.ContainsRune(`"\<>&`, r) }) {
		q, _ := json.Marshal(s) // a string can always be written
		return append(b, q...)
	}
	return append(append(append(b, '"'), s...), '"')
}
