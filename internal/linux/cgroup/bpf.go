package cgroup

import (
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"slices"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/trace"
)

// The few instructions of eBPF that a device program needs; see bpf(2) and
// Documentation/bpf/standardization/instruction-set.rst.
const (
	opLoadWord = 0x61 // dst = *(u32 *)(src + off)
	opMovReg   = 0xbf
	opMovImm   = 0xb7
	opAndImm   = 0x57
	opRshImm   = 0x77
	opJeqImm   = 0x15
	opJneImm   = 0x55
	opExit     = 0x95
)

const (
	progName    = "lade_device"
	maxPrograms = 64 // BPF_CGROUP_MAX_PROGS
)

// insn is struct bpf_insn.
type insn struct {
	op       uint8
	dst, src uint8
	off      int16
	imm      int32
}

// deviceProgram keeps the last loaded program: containers have the same few
// policies, and one program can be attached to any number of groups.
type deviceProgram struct {
	mu  sync.Mutex
	key string
	fd  int // -1: none
}

// assemble translates the rules, last first, to a BPF_PROG_TYPE_CGROUP_DEVICE
// program. r2 holds the accesses that no rule has decided yet, r3 the type,
// r4 and r5 major and minor:
//
//	rule that allows: r2 &^= access; if r2 == 0 return 1
//	rule that denies: if r2 & access != 0 return 0
//	end:              return 0
func (p *devicePolicy) assemble() []insn {
	prog := []insn{
		{op: opLoadWord, dst: 2, src: 1, off: 0}, // access<<16 | type
		{op: opMovReg, dst: 3, src: 2},
		{op: opAndImm, dst: 3, imm: 0xffff},
		{op: opRshImm, dst: 2, imm: 16},
		{op: opLoadWord, dst: 4, src: 1, off: 4},
		{op: opLoadWord, dst: 5, src: 1, off: 8},
	}
	ret := func(v int32) []insn { return []insn{{op: opMovImm, dst: 0, imm: v}, {op: opExit}} }
	for _, r := range slices.Backward(p.rules) {
		var tests, body []insn
		if r.typ != 'a' {
			tests = append(tests, insn{op: opJneImm, dst: 3, imm: map[byte]int32{'b': 1, 'c': 2}[r.typ]})
		}
		if r.major != anyNumber {
			tests = append(tests, insn{op: opJneImm, dst: 4, imm: int32(r.major)})
		}
		if r.minor != anyNumber {
			tests = append(tests, insn{op: opJneImm, dst: 5, imm: int32(r.minor)})
		}
		switch {
		case r.access == accessAll && r.allow:
			body = ret(1)
		case r.access == accessAll:
			body = ret(0)
		case r.allow:
			body = append([]insn{{op: opAndImm, dst: 2, imm: int32(^r.access & accessAll)}, {op: opJneImm, dst: 2, off: 2}}, ret(1)...)
		default:
			body = append([]insn{{op: opMovReg, dst: 6, src: 2}, {op: opAndImm, dst: 6, imm: int32(r.access)}, {op: opJeqImm, dst: 6, off: 2}}, ret(0)...)
		}
		for i := range tests {
			tests[i].off = int16(len(tests) - i - 1 + len(body))
		}
		prog = append(append(prog, tests...), body...)
		if r.all() { // what follows could never run, which the verifier refuses
			return prog
		}
	}
	return append(prog, ret(0)...)
}

func encode(prog []insn) []byte {
	b := make([]byte, 0, len(prog)*8)
	for _, i := range prog {
		b = append(b, i.op, i.dst|i.src<<4)
		b = binary.NativeEndian.AppendUint16(b, uint16(i.off))
		b = binary.NativeEndian.AppendUint32(b, uint32(i.imm))
	}
	return b
}

// attr is union bpf_attr. It is larger than what any kernel that knows the
// commands below writes to, because some write their newer fields whatever
// size they are told.
type attr [192]byte

func (a *attr) u32(off int, v uint32) { binary.NativeEndian.PutUint32(a[off:], v) }
func (a *attr) u64(off int, v uint64) { binary.NativeEndian.PutUint64(a[off:], v) }

// bpf calls bpf(2). size is how much of the attributes the command reads.
func bpf(cmd int, a *attr, size uintptr) (int, error) {
	for {
		r, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(cmd), uintptr(unsafe.Pointer(a)), size)
		if errno == unix.EAGAIN || errno == unix.EINTR { // the verifier was interrupted by a signal
			continue
		}
		if errno != 0 {
			return -1, errno
		}
		return int(r), nil
	}
}

// loadProgram loads code and returns its descriptor.
func loadProgram(code []byte) (int, error) {
	var a attr
	license := []byte("Apache-2.0\x00")
	var pin runtime.Pinner // the kernel reads through addresses kept as numbers
	defer pin.Unpin()
	pin.Pin(&code[0])
	pin.Pin(&license[0])
	a.u32(0, unix.BPF_PROG_TYPE_CGROUP_DEVICE)
	a.u32(4, uint32(len(code)/8))
	a.u64(8, uint64(uintptr(unsafe.Pointer(&code[0]))))
	a.u64(16, uint64(uintptr(unsafe.Pointer(&license[0]))))
	copy(a[48:63], progName)
	fd, err := bpf(unix.BPF_PROG_LOAD, &a, 64)
	if !errors.Is(err, unix.EPERM) {
		return fd, err
	}
	// Before 5.11 programs count against RLIMIT_MEMLOCK, which is small.
	var old unix.Rlimit
	if unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}, &old) != nil {
		return -1, err
	}
	defer func() { _ = unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &old, nil) }()
	return bpf(unix.BPF_PROG_LOAD, &a, 64)
}

// attached returns descriptors of this package's device programs on the group
// whose directory is dir. The caller closes them.
func attached(dir int) (fds []int, err error) {
	var a attr
	ids := make([]uint32, maxPrograms)
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&ids[0])
	a.u32(0, uint32(dir))
	a.u32(4, unix.BPF_CGROUP_DEVICE)
	a.u64(16, uint64(uintptr(unsafe.Pointer(&ids[0]))))
	a.u32(24, maxPrograms)
	if _, err := bpf(unix.BPF_PROG_QUERY, &a, 64); err != nil {
		return nil, err
	}
	n := min(binary.NativeEndian.Uint32(a[24:]), maxPrograms)
	for _, id := range ids[:n] {
		var get attr
		get.u32(0, id)
		fd, err := bpf(unix.BPF_PROG_GET_FD_BY_ID, &get, 12)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			closeAll(fds)
			return nil, err
		}
		info := make([]byte, 128)
		pin.Pin(&info[0])
		var ask attr
		ask.u32(0, uint32(fd))
		ask.u32(4, uint32(len(info)))
		ask.u64(8, uint64(uintptr(unsafe.Pointer(&info[0]))))
		if _, err := bpf(unix.BPF_OBJ_GET_INFO_BY_FD, &ask, 16); err != nil || unix.ByteSliceToString(info[64:80]) != progName {
			unix.Close(fd)
			continue
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

// attach puts prog on the group, in the place of old unless that is -1.
func attach(dir, prog, old int) error {
	var a attr
	a.u32(0, uint32(dir))
	a.u32(4, uint32(prog))
	a.u32(8, unix.BPF_CGROUP_DEVICE)
	flags := uint32(unix.BPF_F_ALLOW_MULTI)
	if old >= 0 {
		flags |= unix.BPF_F_REPLACE
		a.u32(16, uint32(old))
	}
	a.u32(12, flags)
	_, err := bpf(unix.BPF_PROG_ATTACH, &a, 32)
	return err
}

func detach(dir, prog int) error {
	var a attr
	a.u32(0, uint32(dir))
	a.u32(4, uint32(prog))
	a.u32(8, unix.BPF_CGROUP_DEVICE)
	_, err := bpf(unix.BPF_PROG_DETACH, &a, 32)
	return err
}

// program returns the descriptor of a loaded program for p; the cache keeps it
// open and is locked until release is called.
func (d *deviceProgram) program(p *devicePolicy) (fd int, release func(), err error) {
	code := encode(p.assemble())
	d.mu.Lock()
	if d.key != string(code) {
		fd, err := loadProgram(code)
		if err != nil {
			d.mu.Unlock()
			return -1, nil, err
		}
		if d.fd >= 0 {
			unix.Close(d.fd)
		}
		d.key, d.fd = string(code), fd
	}
	return d.fd, d.mu.Unlock, nil
}

// setDevicesV2 attaches the policy's program, or replaces the one that is
// there atomically (BPF_F_REPLACE, Linux 5.6).
func (g *Group) setDevicesV2(p *devicePolicy, fresh bool) (err error) {
	m := g.h.unified
	span := trace.Begin(trace.Cgroup, "bpf", m.name(g.path, ""))
	defer func() { _ = span.End(err) }()
	dir, err := m.open(g.path, "", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return g.missing(m, err)
	}
	defer unix.Close(dir)
	var old []int
	if !fresh {
		if old, err = attached(dir); err != nil {
			return os.NewSyscallError("bpf(BPF_PROG_QUERY)", err)
		}
		defer closeAll(old)
	}
	if !p.allowsAll() {
		prog, release, err := g.h.devices.program(p)
		if err != nil {
			return errdefs.Invalidf("device rules: %w", os.NewSyscallError("bpf(BPF_PROG_LOAD)", err))
		}
		defer release()
		replaced := -1
		if len(old) > 0 {
			replaced, old = old[0], old[1:]
		}
		if err := attach(dir, prog, replaced); err != nil {
			return os.NewSyscallError("bpf(BPF_PROG_ATTACH)", err)
		}
	}
	for _, fd := range old {
		if err := detach(dir, fd); err != nil {
			return os.NewSyscallError("bpf(BPF_PROG_DETACH)", err)
		}
	}
	return nil
}
