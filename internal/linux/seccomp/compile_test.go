package seccomp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	dockers "lade/internal/linux/seccomp/profile"
)

// data is struct seccomp_data.
type data struct {
	nr, arch uint32
	args     [6]uint64
}

// machine runs a program with golang.org/x/net/bpf, which loads words as
// networks order them.
func machine(t testing.TB, prog []insn) func(data) uint32 {
	t.Helper()
	raw := make([]bpf.RawInstruction, len(prog))
	for i, in := range prog {
		raw[i] = bpf.RawInstruction{Op: in.code, Jt: in.jt, Jf: in.jf, K: in.k}
	}
	list, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("not every instruction is known")
	}
	vm, err := bpf.NewVM(list)
	if err != nil {
		t.Fatal(err)
	}
	return func(d data) uint32 {
		words := []uint32{d.nr, d.arch, 0, 0}
		for _, a := range d.args {
			words = append(words, uint32(a), uint32(a>>32))
		}
		var b []byte
		for _, w := range words {
			b = binary.BigEndian.AppendUint32(b, w)
		}
		r, err := vm.Run(b)
		if err != nil {
			t.Fatal(err)
		}
		return uint32(r)
	}
}

var tables = map[abi]map[string]uint32{}

func table(a abi) map[string]uint32 {
	if tables[a] == nil {
		tables[a] = maps.Collect(a.all())
	}
	return tables[a]
}

// reference says in the plainest way what a profile means for one call.
func reference(t testing.TB, s *specs.LinuxSeccomp, goarch string, d data) uint32 {
	t.Helper()
	must := func(a specs.LinuxSeccompAction, e *uint) uint32 {
		r, err := ret(a, e)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	def := must(s.DefaultAction, s.DefaultErrnoRet)
	var family []abi
	for i, a := range abis(goarch) {
		if a.audit == d.arch && (i == 0 || slices.Contains(s.Architectures, a.oci)) {
			family = append(family, a)
		}
	}
	if len(family) == 0 {
		return unix.SECCOMP_RET_KILL_THREAD
	}
	a := family[0]
	for _, f := range family {
		if d.nr >= f.base {
			a = f
		}
	}
	if a.oci == specs.ArchX32 && d.nr < a.base+only32First { // as amd64's
		a, d.nr = family[0], d.nr-a.base
	}
	top := table(a)
	var names []string
	for name, nr := range top {
		if nr == d.nr {
			names = append(names, name)
		}
	}
	newest, known := uint32(0), false
	for _, sc := range s.Syscalls {
		for _, name := range sc.Names {
			if nr, ok := top[name]; ok {
				newest, known = max(newest, nr), true
			}
		}
	}
	permissive := s.DefaultAction == specs.ActAllow || s.DefaultAction == specs.ActLog || s.DefaultAction == specs.ActTrace
	stub := known && !permissive && (s.DefaultErrnoRet == nil || *s.DefaultErrnoRet != uint(unix.ENOSYS))
	if stub && d.nr > newest {
		return unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	}
	if !stub && len(family) == 1 && a.oci == specs.ArchX86_64 && d.nr >= x32Bit && d.nr != ^uint32(0) {
		return unix.SECCOMP_RET_KILL_THREAD
	}
	holds := func(c specs.LinuxSeccompArg) bool {
		x, v, w := d.args[c.Index], c.Value, c.ValueTwo
		if a.bits == 32 {
			x, v, w = uint64(uint32(x)), uint64(uint32(v)), uint64(uint32(w))
		}
		switch c.Op {
		case specs.OpEqualTo:
			return x == v
		case specs.OpNotEqual:
			return x != v
		case specs.OpLessThan:
			return x < v
		case specs.OpLessEqual:
			return x <= v
		case specs.OpGreaterThan:
			return x > v
		case specs.OpGreaterEqual:
			return x >= v
		}
		return x&v == w
	}
	answer := def
	for pass := range 2 { // unconditional rules first
		for _, sc := range s.Syscalls {
			r := must(sc.Action, sc.ErrnoRet)
			if r == def || (len(sc.Args) == 0) != (pass == 0) || !slices.ContainsFunc(sc.Names, func(n string) bool { return slices.Contains(names, n) }) {
				continue
			}
			var used [6]int
			all, one := true, false
			for _, c := range sc.Args {
				used[c.Index]++
				all, one = all && holds(c), one || holds(c)
			}
			if all || one && slices.Max(used[:]) > 1 {
				return r
			}
		}
	}
	return answer
}

// random makes a profile out of a source of numbers.
func random(r *rand.Rand, goarch string) *specs.LinuxSeccomp {
	actions := []specs.LinuxSeccompAction{specs.ActAllow, specs.ActErrno, specs.ActLog, specs.ActTrace, specs.ActTrap, specs.ActKillProcess, specs.ActKill}
	ops := []specs.LinuxSeccompOperator{specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual}
	errnos := []*uint{nil, new(uint(0)), new(uint(1)), new(uint(38)), new(uint(4095))}
	s := &specs.LinuxSeccomp{DefaultAction: actions[r.IntN(len(actions))], DefaultErrnoRet: errnos[r.IntN(len(errnos))]}
	var names []string
	for _, a := range abis(goarch) {
		if r.IntN(2) == 0 {
			s.Architectures = append(s.Architectures, a.oci)
		}
		for n := range a.all() {
			names = append(names, n)
		}
	}
	if goarch == "amd64" {
		// Functions of socketcall and ipc have a test of their own.
		names = slices.DeleteFunc(names, func(n string) bool {
			return slices.ContainsFunc(multiplexed(), func(m multiplexedCall) bool { return m.name == n })
		})
	}
	names = append(names, "no_such_call")
	for range r.IntN(30) {
		sc := specs.LinuxSyscall{Action: actions[r.IntN(len(actions))], ErrnoRet: errnos[r.IntN(len(errnos))]}
		for range 1 + r.IntN(20) {
			sc.Names = append(sc.Names, names[r.IntN(len(names))])
		}
		for range r.IntN(4) {
			sc.Args = append(sc.Args, specs.LinuxSeccompArg{Index: uint(r.IntN(3)), Op: ops[r.IntN(len(ops))], Value: value(r), ValueTwo: value(r)})
		}
		s.Syscalls = append(s.Syscalls, sc)
	}
	return s
}

// value prefers numbers near the edges of comparisons.
func value(r *rand.Rand) uint64 {
	edges := []uint64{0, 1, 2, 0xffff, 1 << 31, 1<<32 - 1, 1 << 32, 1<<32 + 1, 1<<63 - 1, 1 << 63, 1<<64 - 1}
	if r.IntN(4) == 0 {
		return r.Uint64()
	}
	return edges[r.IntN(len(edges))]
}

func sample(r *rand.Rand, goarch string) data {
	family := abis(goarch)
	a := family[r.IntN(len(family))]
	d := data{arch: a.audit, nr: a.base + r.Uint32N(480)}
	switch r.IntN(20) {
	case 0:
		d.arch = r.Uint32()
	case 1:
		d.nr = r.Uint32()
	case 2:
		d.nr = []uint32{^uint32(0), x32Bit - 1, x32Bit, x32Bit + 520, 0xf0005, 0xf0006}[r.IntN(6)]
	}
	for i := range 3 {
		d.args[i] = value(r)
	}
	return d
}

func check(t testing.TB, seed uint64, samples int) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	goarch := []string{"amd64", "arm64"}[r.IntN(2)]
	s := random(r, goarch)
	prog, err := compile(s, goarch)
	if errors.Is(err, errdefs.Invalid) && strings.Contains(err.Error(), "instructions") {
		return // too large, which is for TestInvalid
	}
	if err != nil {
		t.Fatal(err)
	}
	run := machine(t, prog)
	for range samples {
		d := sample(r, goarch)
		if r.IntN(2) == 0 && len(s.Syscalls) > 0 { // near a value that the profile names
			if args := s.Syscalls[r.IntN(len(s.Syscalls))].Args; len(args) > 0 {
				d.args[args[0].Index] = args[0].Value + uint64(r.IntN(3)) - 1
			}
		}
		if got, want := run(d), reference(t, s, goarch, d); got != want {
			t.Fatalf("seed %d %s: %#x gives %#x, want %#x\n%+v", seed, goarch, d, got, want, s)
		}
	}
}

// TestRandom compares compiled profiles with the reference.
func TestRandom(t *testing.T) {
	for seed := range uint64(200) {
		check(t, seed, 200)
	}
}

func FuzzCompile(f *testing.F) {
	f.Add(uint64(0))
	f.Add(uint64(12345))
	f.Fuzz(func(t *testing.T, seed uint64) { check(t, seed, 20) })
}

// dockerCaps is the bounding set of a default container.
func dockerCaps() []string {
	return []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
		"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE"}
}

func defaultProfile(t testing.TB) *specs.LinuxSeccomp {
	t.Helper()
	s, err := dockers.Default(dockerCaps())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestDefaultProfile walks every number of every ABI through Docker's profile,
// and holds its size and depth.
func TestDefaultProfile(t *testing.T) {
	s := defaultProfile(t)
	for _, goarch := range []string{"amd64", "arm64"} {
		s := *s
		s.Architectures = nil
		for _, a := range abis(goarch) {
			s.Architectures = append(s.Architectures, a.oci)
		}
		prog, err := compile(&s, goarch)
		if err != nil {
			t.Fatal(err)
		}
		if len(prog) > 400 {
			t.Errorf("%s: %d instructions", goarch, len(prog))
		}
		run := machine(t, prog)
		deepest, sum := 0, 0
		for _, a := range abis(goarch) {
			for nr := range uint32(600) {
				for _, arg := range []uint64{0, 38, 0x10000000, 1 << 32} {
					d := data{nr: a.base + nr, arch: a.audit, args: [6]uint64{arg, arg}}
					if a.goarch == "386" && (nr == 102 || nr == 117) {
						continue
					}
					if got, want := run(d), reference(t, &s, goarch, d); got != want {
						t.Fatalf("%s: %+v gives %#x, want %#x", goarch, d, got, want)
					}
				}
				n := steps(prog, data{nr: a.base + nr, arch: a.audit})
				deepest = max(deepest, n)
				if a.base == 0 && a.oci == abis(goarch)[0].oci && nr < 335 {
					sum += n
				}
			}
		}
		t.Logf("%s: %d instructions, at most %d of them run, %.1f on average for a native call", goarch, len(prog), deepest, float64(sum)/335)
		if deepest > 50 {
			t.Errorf("%s: %d instructions run", goarch, deepest)
		}
	}
}

// steps counts the instructions that run.
func steps(prog []insn, d data) (n int) {
	var acc uint32
	for pc := 0; ; pc++ {
		n++
		in := prog[pc]
		taken := false
		switch in.code {
		case ldAbs:
			switch {
			case in.k == offNr:
				acc = d.nr
			case in.k == offArch:
				acc = d.arch
			case in.k%8 == 0:
				acc = uint32(d.args[(in.k-offArgs)/8])
			default:
				acc = uint32(d.args[(in.k-offArgs)/8] >> 32)
			}
			continue
		case and:
			acc &= in.k
			continue
		case ja:
			pc += int(in.k)
			continue
		case retK:
			return n
		case jeq:
			taken = acc == in.k
		case jgt:
			taken = acc > in.k
		case jge:
			taken = acc >= in.k
		}
		if taken {
			pc += int(in.jt)
		} else {
			pc += int(in.jf)
		}
	}
}

func TestMultiplexed(t *testing.T) {
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86},
		Syscalls: []specs.LinuxSyscall{
			{Names: []string{"bind", "shmat"}, Action: specs.ActErrno},
			{Names: []string{"listen"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 0, Op: specs.OpEqualTo, Value: 3}}},
		}}
	prog, err := compile(s, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	run := machine(t, prog)
	for _, tc := range []struct {
		nr     uint32
		arg    uint64
		denied bool
	}{
		{102, 2, true}, {102, 1, false}, {102, 4, false}, // socketcall
		{117, 21, true}, {117, 1<<16 | 21, true}, {117, 22, false}, // ipc, which has a version above the function
		{361, 0, true}, {397, 0, true}, {363, 3, true}, {363, 4, false}, // bind, shmat, listen
	} {
		want := uint32(unix.SECCOMP_RET_ALLOW)
		if tc.denied {
			want = unix.SECCOMP_RET_ERRNO | 1
		}
		if got := run(data{nr: tc.nr, arch: unix.AUDIT_ARCH_I386, args: [6]uint64{tc.arg}}); got != want {
			t.Errorf("%+v: %#x", tc, got)
		}
	}
}

func TestInvalid(t *testing.T) {
	arg := func(a specs.LinuxSeccompArg) *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{a}}}}
	}
	huge := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}
	for i := range 2000 {
		huge.Syscalls = append(huge.Syscalls, specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActErrno,
			Args: []specs.LinuxSeccompArg{{Op: specs.OpEqualTo, Value: uint64(i)}}})
	}
	for what, s := range map[string]*specs.LinuxSeccomp{
		"no default":    {},
		"action":        {DefaultAction: "SCMP_ACT_WHAT"},
		"rule's action": {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: "x"}}},
		"architecture":  {DefaultAction: specs.ActAllow, Architectures: []specs.Arch{"SCMP_ARCH_Z80"}},
		"index":         arg(specs.LinuxSeccompArg{Index: 6, Op: specs.OpEqualTo}),
		"operator":      arg(specs.LinuxSeccompArg{Op: "SCMP_CMP_ALMOST"}),
		"errno":         {DefaultAction: specs.ActErrno, DefaultErrnoRet: new(uint(70000))},
		"size":          huge,
	} {
		if _, err := Compile(s); !errors.Is(err, errdefs.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	notify := func(name string) []specs.LinuxSyscall {
		return []specs.LinuxSyscall{{Names: []string{name}, Action: specs.ActNotify}}
	}
	for name, s := range map[string]*specs.LinuxSeccomp{
		"default":     {DefaultAction: specs.ActNotify, ListenerPath: "/x"},
		"no listener": {DefaultAction: specs.ActAllow, Syscalls: notify("mkdir")},
		"metadata":    {DefaultAction: specs.ActAllow, ListenerMetadata: "m"},
		"sender":      {DefaultAction: specs.ActAllow, ListenerPath: "/x", Syscalls: notify(sender)},
	} {
		if _, err := Compile(s); !errors.Is(err, errdefs.Invalid) {
			t.Errorf("notify, %s: %v", name, err)
		}
	}
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "/x", Syscalls: notify("mkdir"), Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv}}
	flags, err := Flags(s)
	if want := uint(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV); err != nil || flags != want {
		t.Errorf("flags %#x, %v; want %#x", flags, err, want)
	}
	if _, err := Compile(s); err != nil {
		t.Error(err)
	}
}

func TestFlags(t *testing.T) {
	for _, tc := range []struct {
		flags []specs.LinuxSeccompFlag
		want  uint
	}{
		{nil, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW},
		{[]specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog}, unix.SECCOMP_FILTER_FLAG_LOG},
		{[]specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow, "SECCOMP_FILTER_FLAG_TSYNC"}, unix.SECCOMP_FILTER_FLAG_LOG | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW},
	} {
		if got, err := Flags(&specs.LinuxSeccomp{Flags: tc.flags}); got != tc.want || err != nil {
			t.Errorf("Flags(%v) = %#x, %v", tc.flags, got, err)
		}
	}
	if _, err := Flags(&specs.LinuxSeccomp{Flags: []specs.LinuxSeccompFlag{"x"}}); !errors.Is(err, errdefs.Invalid) {
		t.Error(err)
	}
}

func BenchmarkCompile(b *testing.B) {
	s := defaultProfile(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(s); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleCompile() {
	filter, err := Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"reboot"}, Action: specs.ActErrno}}})
	fmt.Println(len(filter)%8, err)
	// Output: 0 <nil>
}
