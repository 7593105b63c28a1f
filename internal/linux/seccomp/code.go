package seccomp

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// insn is struct sock_filter.
type insn struct {
	code   uint16
	jt, jf uint8
	k      uint32
}

// The instructions that filters use; see linux/filter.h.
const (
	ldAbs = 0x20 // A = word at k of struct seccomp_data
	and   = 0x54 // A &= k
	ja    = 0x05
	jeq   = 0x15
	jgt   = 0x25
	jge   = 0x35
	retK  = 0x06
)

// Offsets in struct seccomp_data. The machines here are little-endian.
const (
	offNr   = 0
	offArch = 4
	offArgs = 16
)

// search emits a binary search for the number in A. A jump within a filter
// reaches 255 instructions; a longer one needs an instruction of its own.
func search(list []interval) []insn {
	if len(list) == 1 {
		return list[0].leaf
	}
	m := len(list) / 2
	low, high := search(list[:m]), search(list[m:])
	out := make([]insn, 0, 2+len(low)+len(high))
	if len(low) <= 255 {
		out = append(out, insn{code: jge, jt: uint8(len(low)), k: list[m].first})
	} else {
		out = append(out, insn{code: jge, jf: 1, k: list[m].first}, insn{code: ja, k: uint32(len(low))})
	}
	return append(append(out, low...), high...)
}

// where a comparison's jump goes, until the code's length is known.
const (
	next  = 0xfd // the next instruction
	match = 0xfe // past this condition
	fail  = 0xff // past this rule
)

// code emits one rule: it returns the rule's value, or falls through to what
// follows if a condition does not hold. On a 32-bit ABI the low words are
// compared.
func (r rule) code(bits int) []insn {
	conds := make([][]insn, 0, len(r.args))
	left := 1 // instructions after the condition, up to the end of the rule
	for _, a := range r.args {
		c := condition(a, bits)
		conds = append(conds, c)
		left += len(c)
	}
	out := make([]insn, 0, left)
	for _, c := range conds {
		left -= len(c)
		for i := range c {
			for _, j := range []*uint8{&c[i].jt, &c[i].jf} {
				switch *j {
				case next:
					*j = 0
				case match:
					*j = uint8(len(c) - i - 1)
				case fail:
					*j = uint8(len(c) - i - 1 + left)
				}
			}
		}
		out = append(out, c...)
	}
	return append(out, insn{code: retK, k: r.ret})
}

// condition compares one argument, as two words on a 64-bit ABI.
func condition(a specs.LinuxSeccompArg, bits int) []insn {
	off := uint32(offArgs + 8*a.Index)
	lo, hi := insn{code: ldAbs, k: off}, insn{code: ldAbs, k: off + 4}
	v, w := uint32(a.Value), uint32(a.Value>>32)
	wide := bits == 64
	jump := func(code uint16, k uint32, jt, jf uint8) insn { return insn{code, jt, jf, k} }
	// ordered compares the high words first; above and below say what decides.
	ordered := func(last insn, above, below uint8) []insn {
		if !wide {
			return []insn{lo, last}
		}
		c := []insn{hi, jump(jgt, w, above, next), jump(jeq, w, next, below), lo, last}
		if w == 0 { // nothing is below
			c = []insn{hi, jump(jeq, 0, next, above), lo, last}
		}
		return c
	}
	switch a.Op {
	case specs.OpEqualTo:
		if !wide {
			return []insn{lo, jump(jeq, v, match, fail)}
		}
		return []insn{hi, jump(jeq, w, next, fail), lo, jump(jeq, v, match, fail)}
	case specs.OpNotEqual:
		if !wide {
			return []insn{lo, jump(jeq, v, fail, match)}
		}
		return []insn{hi, jump(jeq, w, next, match), lo, jump(jeq, v, fail, match)}
	case specs.OpGreaterThan:
		return ordered(jump(jgt, v, match, fail), match, fail)
	case specs.OpGreaterEqual:
		return ordered(jump(jge, v, match, fail), match, fail)
	case specs.OpLessThan:
		return ordered(jump(jge, v, fail, match), fail, match)
	case specs.OpLessEqual:
		return ordered(jump(jgt, v, fail, match), fail, match)
	}
	// OpMaskedEqual: value is the mask, valueTwo what must be left.
	var c []insn
	half := func(load insn, mask, want uint32) {
		c = append(c, load)
		if mask != ^uint32(0) {
			c = append(c, insn{code: and, k: mask})
		}
		c = append(c, jump(jeq, want, next, fail))
	}
	mw, vw := w, uint32(a.ValueTwo>>32)
	if wide && (mw != 0 || vw != 0) {
		half(hi, mw, vw)
	}
	half(lo, v, uint32(a.ValueTwo))
	return c
}
