package seccomp

import (
	"slices"

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

// assembler makes a program from its end to its beginning, so that a jump, which
// only goes forward, knows how far. Loading a filter costs the kernel a quarter
// of a microsecond for each instruction, twice what running one does; therefore
// what is equal is shared.
type assembler struct {
	code   []insn // the last instruction first
	leaves []placed
}

// leaf is code that does not go on to what follows it: rules, each of which
// returns its value or goes on to the next, and what is returned after them.
type leaf struct {
	rules []insn
	ret   uint32
}

func (l leaf) equal(other leaf) bool {
	return l.ret == other.ret && slices.Equal(l.rules, other.rules)
}

// placed is a leaf that was emitted, and where it begins. A filter has few: a
// profile's actions, and its conditions.
type placed struct {
	leaf
	at int
}

// reach is how many instructions a conditional jump skips at most.
const reach = 255

// emit puts an instruction in front of the others and returns its place.
func (a *assembler) emit(i insn) int {
	a.code = append(a.code, i)
	return len(a.code) - 1
}

// leaf returns the place of a leaf.
func (a *assembler) leaf(l leaf) int {
	i := slices.IndexFunc(a.leaves, func(p placed) bool { return p.equal(l) })
	if i >= 0 && len(a.code)-a.leaves[i].at < reach {
		return a.leaves[i].at
	}
	at := a.emit(insn{code: retK, k: l.ret})
	for _, i := range slices.Backward(l.rules) {
		at = a.emit(i)
	}
	if i < 0 {
		a.leaves = append(a.leaves, placed{l, at})
	} else {
		a.leaves[i].at = at
	}
	return at
}

// near returns a place that a jump reaches which more instructions are put
// before, and from where the program goes on at the given one.
func (a *assembler) near(at, more int) int {
	if len(a.code)+more-at-1 <= reach {
		return at
	}
	if i := a.code[at]; i.code == retK {
		return a.leaf(leaf{ret: i.k})
	}
	return a.emit(insn{code: ja, k: uint32(len(a.code) - at - 1)})
}

// follow makes what is at the given place the next to run.
func (a *assembler) follow(at int) {
	if at != len(a.code)-1 {
		a.emit(insn{code: ja, k: uint32(len(a.code) - at - 1)})
	}
}

// jump emits a comparison of A with k.
func (a *assembler) jump(code uint16, k uint32, yes, no int) int {
	yes = a.near(yes, 2)
	no = a.near(no, 0)
	n := len(a.code) - 1
	return a.emit(insn{code: code, jt: uint8(n - yes), jf: uint8(n - no), k: k})
}

// few is how many single numbers are compared one after the other: each costs
// one instruction, where a binary search needs two.
const few = 2

// search emits a binary search for the number in A among intervals up to end.
func (a *assembler) search(list []interval, end uint32) int {
	for _, usual := range list[:min(2, len(list))] {
		if singles, ok := exceptions(list, usual.leaf, end); ok {
			at := a.leaf(usual.leaf)
			for _, s := range singles {
				yes := a.leaf(s.leaf)
				at = a.jump(jeq, s.first, yes, at)
			}
			return at
		}
	}
	m := len(list) / 2
	high := a.search(list[m:], end)
	low := a.search(list[:m], list[m].first-1)
	return a.jump(jge, list[m].first, high, low)
}

// exceptions returns the intervals without the usual answer, if they are few
// single numbers.
func exceptions(list []interval, usual leaf, end uint32) (singles []interval, ok bool) {
	for i, e := range list {
		last := end
		if i+1 < len(list) {
			last = list[i+1].first - 1
		}
		if e.leaf.equal(usual) {
			continue
		}
		if last != e.first || len(singles) == few {
			return nil, false
		}
		singles = append(singles, e)
	}
	return singles, true
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
