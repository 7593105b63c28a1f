package seccomp

import (
	"encoding/binary"
	"iter"
	"runtime"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// maxInsns is BPF_MAXINSNS, the kernel's limit for one filter.
const maxInsns = 4096

// Compile translates an OCI profile to the filter that seccomp(2) takes: an
// array of struct sock_filter in the machine's byte order, for the machine's
// own architecture and those of the profile that it can run. Names that no
// kernel of these architectures has are ignored, as profiles list the system
// calls of all. Errors: Invalid for a profile that says what a filter cannot
// do, or hands calls over to nobody.
func Compile(s *specs.LinuxSeccomp) ([]byte, error) {
	prog, err := compile(s, runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, 8*len(prog))
	for _, i := range prog {
		b = binary.NativeEndian.AppendUint16(b, i.code)
		b = append(b, i.jt, i.jf)
		b = binary.NativeEndian.AppendUint32(b, i.k)
	}
	return b, nil
}

// Flags returns the flags with which seccomp(SECCOMP_SET_MODE_FILTER) loads
// the profile. Without any in the profile it is SPEC_ALLOW, as runc has it:
// before Linux 5.16 a filter switched off speculative store bypass, which is
// slow. A profile that hands calls over has NEW_LISTENER: the answer of the
// call is then the listener. Errors: Invalid.
func Flags(s *specs.LinuxSeccomp) (uint, error) {
	var flags uint
	if len(s.Flags) == 0 {
		flags = unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
	}
	notifies := Notifies(s)
	if notifies {
		flags |= unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	}
	for _, f := range s.Flags {
		switch f {
		case specs.LinuxSeccompFlagLog:
			flags |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case "SECCOMP_FILTER_FLAG_TSYNC": // the process has one thread
		case specs.LinuxSeccompFlagWaitKillableRecv:
			if notifies { // without a listener the kernel refuses it
				flags |= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
			}
		default:
			return 0, errdefs.Invalidf("seccomp flag %q not supported", f)
		}
	}
	return flags, nil
}

// Notifies reports whether a profile hands system calls over to a listener.
func Notifies(s *specs.LinuxSeccomp) bool {
	return slices.ContainsFunc(s.Syscalls, func(c specs.LinuxSyscall) bool { return c.Action == specs.ActNotify })
}

// sender is the call by which the runtime passes the listener on, with the
// filter in force.
const sender = "sendmsg"

// CheckListener refuses what would leave a process waiting for an answer that
// nobody can give. Errors: Invalid.
func CheckListener(s *specs.LinuxSeccomp) error {
	switch {
	case s.ListenerPath == "" && s.ListenerMetadata != "":
		return errdefs.Invalidf("seccomp: listenerMetadata needs a listenerPath")
	case s.DefaultAction == specs.ActNotify:
		return errdefs.Invalidf("seccomp: %s cannot be the default action", specs.ActNotify)
	case Notifies(s) && s.ListenerPath == "":
		return errdefs.Invalidf("seccomp: %s needs a listenerPath", specs.ActNotify)
	}
	for _, c := range s.Syscalls {
		if c.Action == specs.ActNotify && slices.Contains(c.Names, sender) {
			return errdefs.Invalidf("seccomp: %s cannot be used for the %s system call", specs.ActNotify, sender)
		}
	}
	return nil
}

// ret translates an action to a filter's return value.
func ret(action specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	data := uint32(unix.EPERM)
	if errno != nil {
		if *errno > unix.SECCOMP_RET_DATA {
			return 0, errdefs.Invalidf("seccomp: errnoRet %d is too large", *errno)
		}
		data = uint32(*errno)
	}
	switch action {
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | data, nil
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | data, nil
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	case specs.ActNotify:
		return unix.SECCOMP_RET_USER_NOTIF, nil
	}
	return 0, errdefs.Invalidf("seccomp action %q not supported", action)
}

// rule is one line of a profile for one system call: all args must match.
type rule struct {
	ret  uint32
	args []specs.LinuxSeccompArg
}

// call is what the rules make of one system call. The first unconditional rule
// decides whatever the conditional ones say; else the first conditional one
// that matches; else the default action.
type call struct {
	decided bool // by an unconditional rule, whose value is final
	final   uint32
	rules   []rule
}

func (c *call) add(r rule) {
	switch {
	case c.decided:
	case len(r.args) == 0:
		c.decided, c.final, c.rules = true, r.ret, nil
	default:
		c.rules = append(c.rules, r)
	}
}

// profile is a validated LinuxSeccomp.
type profile struct {
	def   uint32
	calls []call
	index map[string]int // in calls, by name
	// known and list are those of the ABI that is being compiled, one after the
	// other in the same memory.
	known numbered
	list  []interval
	// enosys says that calls newer than all that the profile names answer
	// ENOSYS, so that a libc falls back to older ones.
	enosys bool
}

func newProfile(s *specs.LinuxSeccomp) (*profile, error) {
	if err := CheckListener(s); err != nil {
		return nil, err
	}
	def, err := ret(s.DefaultAction, s.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	names := 0
	for i := range s.Syscalls {
		names += len(s.Syscalls[i].Names)
	}
	p := &profile{
		def: def, calls: make([]call, 0, names), index: make(map[string]int, names),
		known: make(numbered, 0, names), list: make([]interval, 0, names+4),
	}
	switch s.DefaultAction {
	case specs.ActAllow, specs.ActLog, specs.ActTrace:
	default:
		p.enosys = s.DefaultErrnoRet == nil || *s.DefaultErrnoRet != uint(unix.ENOSYS)
	}
	for i := range s.Syscalls {
		sc := &s.Syscalls[i]
		r, err := ret(sc.Action, sc.ErrnoRet)
		if err != nil {
			return nil, err
		}
		rules, err := split(r, sc.Args)
		if err != nil {
			return nil, err
		}
		for _, name := range sc.Names {
			at, there := p.index[name]
			if !there {
				at = len(p.calls)
				p.calls, p.index[name] = append(p.calls, call{}), at
			}
			if r == def { // says nothing, as libseccomp has it
				continue
			}
			for _, r := range rules {
				p.calls[at].add(r)
			}
		}
	}
	return p, nil
}

// call returns what the profile says of a system call; nil if nothing.
func (p *profile) call(name string) *call {
	if at, there := p.index[name]; there {
		return &p.calls[at]
	}
	return nil
}

// split checks conditions. Two on the same argument are alternatives, one rule
// each: so runc has always understood them, and profiles rely on it.
func split(ret uint32, args []specs.LinuxSeccompArg) ([]rule, error) {
	var seen [6]int
	for _, a := range args {
		if a.Index > 5 {
			return nil, errdefs.Invalidf("seccomp: argument index %d is not in 0…5", a.Index)
		}
		seen[a.Index]++
		switch a.Op {
		case specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual:
		default:
			return nil, errdefs.Invalidf("seccomp operator %q not supported", a.Op)
		}
	}
	if slices.Max(seen[:]) < 2 {
		return []rule{{ret, args}}, nil
	}
	rules := make([]rule, 0, len(args))
	for i := range args {
		rules = append(rules, rule{ret, args[i : i+1]})
	}
	return rules, nil
}

// compile makes the program for a machine of the given GOARCH.
func compile(s *specs.LinuxSeccomp, goarch string) ([]insn, error) {
	p, err := newProfile(s)
	if err != nil {
		return nil, err
	}
	abis, err := chosen(s.Architectures, goarch)
	if err != nil {
		return nil, err
	}
	var a assembler
	at := a.emit(insn{code: retK, k: unix.SECCOMP_RET_KILL_THREAD}) // libseccomp's action for a foreign architecture
	for len(abis) > 0 {
		last := abis[len(abis)-1]
		abis = abis[:len(abis)-1]
		x32 := last.base == x32Bit
		if x32 { // it stands after its sister, whose audit architecture it has
			last = abis[len(abis)-1]
			abis = abis[:len(abis)-1]
		}
		p.resolve(last.all())
		if last.goarch == "386" {
			p.multiplex()
		}
		entry := a.search(p.intervals(last, last.base, x32), ^uint32(0))
		if x32 {
			entry = p.sister(&a, entry)
		}
		a.follow(entry)
		block := a.emit(insn{code: ldAbs, k: offNr})
		at = a.jump(jeq, last.audit, block, at)
	}
	a.emit(insn{code: ldAbs, k: offArch})
	if len(a.code) > maxInsns {
		return nil, errdefs.Invalidf("seccomp: the profile needs %d instructions, the kernel takes %d", len(a.code), maxInsns)
	}
	slices.Reverse(a.code)
	return a.code, nil
}

// sister emits the answers to x32 calls, in front of those to amd64 calls, which
// begin at entry. The calls of x32 are those of amd64, with a bit set, and
// answered as such: what x32 has not under its amd64 number the kernel refuses.
// From 512 on x32 has calls of its own.
func (p *profile) sister(a *assembler, entry int) int {
	x32 := abis("amd64")[1]
	p.resolve(own32())
	if len(p.known) == 0 { // whether it knows any call of x32 counts, too
		p.resolve(x32.all())
	}
	own := a.search(p.intervals(x32, x32.base+only32First, true), ^uint32(0))
	a.follow(entry)
	masked := a.emit(insn{code: and, k: ^uint32(x32Bit)})
	both := a.jump(jge, x32.base+only32First, own, masked)
	return a.jump(jge, x32.base, both, entry)
}

// interval is a range of numbers, up to the next one's first, with one answer.
type interval struct {
	first uint32
	leaf  leaf
}

// intervals lists what happens to each number of an ABI whose known calls were
// resolved, in order, from a first one on, until the next ABI's are asked for.
// sister says that x32 calls are known, too.
func (p *profile) intervals(a abi, from uint32, sister bool) []interval {
	def := leaf{ret: p.def}
	known := p.known
	out := append(p.list[:0], interval{from, def})
	put := func(first uint32, l leaf) {
		if n := len(out); out[n-1].first == first {
			out = out[:n-1]
		}
		if n := len(out); n == 0 || !out[n-1].leaf.equal(l) {
			out = append(out, interval{first, l})
		}
	}
	newer := def
	for i := range known {
		if e := &known[i]; e.nr >= from && (e.decided || e.rules != nil) {
			put(e.nr, e.leaf(a, p.def))
			put(e.nr+1, def)
		}
	}
	if p.enosys && len(known) > 0 {
		newer = leaf{ret: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)}
		put(max(known[len(known)-1].nr+1, from), newer)
	}
	if a.oci == specs.ArchX86_64 && !sister && newer.equal(def) {
		// x32 calls when the profile does not have x32; −1 is a call that a
		// tracer has skipped.
		put(x32Bit, leaf{ret: unix.SECCOMP_RET_KILL_THREAD})
		put(^uint32(0), def)
	}
	p.list = out
	return out
}

// entry is a number and its rules.
type entry struct {
	nr uint32
	call
}

// numbered is a list of entries in the order of their numbers.
type numbered []entry

// at returns the entry of a number, made if it is not there; the next call may
// move it. Tables come in order: nearly always the number is the last one's or
// beyond it.
func (l *numbered) at(nr uint32) *entry {
	i := len(*l)
	for i > 0 && (*l)[i-1].nr > nr {
		i--
	}
	if i == 0 || (*l)[i-1].nr != nr {
		*l = slices.Insert(*l, i, entry{nr: nr})
		i++
	}
	return &(*l)[i-1]
}

// resolve looks the names of an ABI's calls up in the profile and keeps what it
// says of them, by number. An entry without rules only shows that the profile
// knows the call.
func (p *profile) resolve(calls iter.Seq2[string, uint32]) {
	p.known = p.known[:0]
	for name, nr := range calls {
		c := p.call(name)
		if c == nil {
			continue
		}
		e := p.known.at(nr)
		if c.decided {
			e.add(rule{ret: c.final})
		}
		for _, r := range c.rules {
			e.add(r)
		}
	}
}

// multiplex adds what socketcall(2) and ipc(2) of 32-bit x86 do by number, which
// follows the rules of the calls' names; conditions on the real arguments cannot
// be checked there.
func (p *profile) multiplex() {
	for _, m := range multiplexed() {
		c, by := p.call(m.name), p.call(m.by)
		if c == nil || !c.decided || by != nil && by.decided {
			continue
		}
		p.known.at(m.nr).add(rule{c.final, []specs.LinuxSeccompArg{{Op: specs.OpMaskedEqual, Value: 0xffff, ValueTwo: m.number}}})
	}
}

// leaf is the code that decides one call.
func (c *call) leaf(a abi, def uint32) leaf {
	if c.decided {
		return leaf{ret: c.final}
	}
	l := leaf{ret: def}
	for _, r := range c.rules {
		l.rules = append(l.rules, r.code(a.bits)...)
	}
	return l
}

// chosen returns the machine's ABIs that the profile covers, the native one
// first: it is always covered, as libseccomp has it.
func chosen(names []specs.Arch, goarch string) ([]abi, error) {
	family := abis(goarch)
	if family == nil {
		return nil, errdefs.NotImplementedf("seccomp: no system call table for %s", goarch)
	}
	want := []bool{true, false, false}
	for _, n := range names {
		if !strings.Contains(ociArches, " "+string(n)+" ") {
			return nil, errdefs.Invalidf("seccomp: architecture %q not supported", n)
		}
		for i, a := range family {
			want[i] = want[i] || a.oci == n
		}
	}
	var out []abi
	for i, a := range family {
		if want[i] {
			out = append(out, a)
		}
	}
	return out, nil
}
