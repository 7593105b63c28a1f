package netlink

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Rule sends packets with a mark (SO_MARK, "meta mark") to a routing table.
type Rule struct {
	Six      bool // the family
	Priority uint32
	Mark     uint32 // all of it
	Table    uint32
}

// AddRule adds a rule. Errors of Do: EEXIST if the same is there.
func (r *Request) AddRule(rule Rule) {
	r.Message(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	r.rule(rule)
}

// DelRule removes a rule. Errors of Do: ENOENT.
func (r *Request) DelRule(rule Rule) {
	r.Message(unix.RTM_DELRULE, 0)
	r.rule(rule)
}

// rule writes a struct fib_rule_hdr and its attributes.
// Source: include/uapi/linux/fib_rules.h.
func (r *Request) rule(rule Rule) {
	var h [12]byte
	h[0], h[7] = familyOf(rule.Six), unix.FR_ACT_TO_TBL
	r.Header(h[:]...)
	r.Uint32(unix.FRA_PRIORITY, rule.Priority)
	r.Uint32(unix.FRA_FWMARK, rule.Mark)
	r.Uint32(unix.FRA_TABLE, rule.Table)
}

// AddLocalRoute makes every address of a family one of the host's, for those who
// look into a table ("local default dev lo table …"). It replaces one that is
// there.
func (r *Request) AddLocalRoute(six bool, table uint32) {
	r.Message(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	r.localRoute(six, table)
}

// DelLocalRoute takes it back. Errors of Do: ESRCH.
func (r *Request) DelLocalRoute(six bool, table uint32) {
	r.Message(unix.RTM_DELROUTE, 0)
	r.localRoute(six, table)
}

func (r *Request) localRoute(six bool, table uint32) {
	const lo = 1 // its number in every namespace
	var h [unix.SizeofRtMsg]byte
	h[0] = familyOf(six)
	h[5], h[6], h[7] = unix.RTPROT_STATIC, unix.RT_SCOPE_HOST, unix.RTN_LOCAL
	r.Header(h[:]...)
	r.Uint32(unix.RTA_OIF, lo)
	r.Uint32(unix.RTA_TABLE, table)
}

func familyOf(six bool) uint8 {
	if six {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// RuleMark returns the mark of a notification that a rule was removed.
func (m Message) RuleMark() (mark uint32, removed bool) {
	const header = 12
	if m.Type != unix.RTM_DELRULE || len(m.Data) < header {
		return 0, false
	}
	for t, v := range Attrs(m.Data[header:]) {
		if t == unix.FRA_FWMARK && len(v) == 4 {
			return binary.NativeEndian.Uint32(v), true
		}
	}
	return 0, false
}
