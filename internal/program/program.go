package program

import (
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// block is what the interpreter shares with its caller. The assembly uses the
// fields' names, by go_asm.h.
type block struct {
	cloneNr              uint64
	cloneArg0, cloneArg1 uint64
	ops, end             uintptr
	failed               uintptr // the op, or 0
	errno                uint64
	cloned               int64 // result of clone3
	enter, leave         int64 // descriptors for setns, or -1
	enterKind            uint64
	enterErr, leaveErr   int64
	allSignals           uint64
	oldSignals           uint64
	progress             uintptr // the op under way
	fork                 uintptr // the op of Fork, or 0
	through              uint64  // the first process came back from it
	began, entered       uint64  // clock readings
	released             uint64
}

// op is one system call.
type op struct {
	nr        uint64
	args      [6]uint64
	allow     [2]uint64 // bit n: errno n is no failure
	patches   uintptr   // first patch
	onSuccess uint64    // bytes to the next op
	onFailure uint64    // likewise, after an allowed errno
	retries   uint64    // how often EAGAIN repeats the op
	result    int64
	time      uint64 // clock reading after it
}

// patch says where else a result goes.
type patch struct {
	to   uintptr
	next uintptr
}

type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

const (
	maxOps    = 4096
	stackSize = 4096
	dataSize  = 8 << 20 // execve(2) takes up to 6 MiB of arguments
	keepSize  = 256 << 10
	opSize    = uint64(unsafe.Sizeof(op{}))
)

// arena is the layout of a program's memory.
type arena struct {
	block block
	clone cloneArgs
	fork  cloneArgs // of Fork
	pidfd int64
	tid   int64
	last  int64           // thread id of the child that Fork makes
	stack [stackSize]byte // never used, but clone3 wants one with CLONE_VM
	ops   [maxOps]op
	data  [dataSize]byte
}

// ErrTooLong says that a program or its data does not fit: at least one of the
// strings handed in is too long to be an argument of execve(2) anyway.
var ErrTooLong error = tooLong{}

type tooLong struct{}

func (tooLong) Error() string { return "start program: " + syscall.E2BIG.Error() }

// Unwrap returns E2BIG.
func (tooLong) Unwrap() error { return syscall.E2BIG }

// Program is a program that is being built, or has run. Its zero value is not
// usable; see New.
type Program struct {
	mem    []byte
	page   []byte // of the block, with Apart
	a      *arena
	b      *block // in the arena, or in page
	n      int    // ops
	used   int    // bytes of data
	names  []name
	full   bool
	forkOp int // the op of Fork, or -1
	// clock and wall readings around the last run, for Steps
	before, after time.Time
}

type name struct{ call, object string }

// Memory says how a program's arena is shared with its child.
type Memory int

const (
	// Vfork shares all memory until the child executes; the caller waits for that.
	Vfork Memory = unix.MAP_PRIVATE
	// Parked shares only the arena: the child may outlive the caller. See Spawn.
	Parked Memory = unix.MAP_SHARED
	// Apart shares nothing but a page that says how far the child came, which
	// the caller does not trust: for a child that others may tamper with. Of the
	// results of ops, only the failure of one is known. See Spawn, Forget.
	Apart Memory = -1
)

// New returns an empty program. The caller must Close it; it is made to be
// used again and again (Reset).
func New(m Memory) (*Program, error) {
	how := int(m)
	if m == Apart {
		how = unix.MAP_PRIVATE
	}
	mem, err := unix.Mmap(-1, 0, int(unsafe.Sizeof(arena{})), unix.PROT_READ|unix.PROT_WRITE, how|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("start program: mmap: %w", err)
	}
	p := &Program{mem: mem, a: (*arena)(unsafe.Pointer(&mem[0])), names: make([]name, 0, 256)}
	p.b = &p.a.block
	if m == Apart {
		if p.page, err = unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANON); err != nil {
			return nil, errors.Join(fmt.Errorf("start program: mmap: %w", err), p.Close())
		}
		p.b = (*block)(unsafe.Pointer(&p.page[0]))
	}
	p.Reset()
	return p, nil
}

// Close releases the memory. No child may be using it.
func (p *Program) Close() error {
	if p.mem == nil {
		return nil
	}
	mem, page := p.mem, p.page
	p.mem, p.page, p.a, p.b = nil, nil, nil, nil
	err := unix.Munmap(mem)
	if page != nil {
		err = errors.Join(err, unix.Munmap(page))
	}
	return err
}

// Reset empties the program. Memory that an unusually big one used is given
// back to the system.
func (p *Program) Reset() {
	if p.used > keepSize {
		from := (int(unsafe.Offsetof(arena{}.data)) + keepSize) &^ 4095
		// Without it the memory stays: no harm.
		_ = unix.Madvise(p.mem[from:], unix.MADV_DONTNEED)
	}
	clear(p.names)
	p.n, p.used, p.names, p.full, p.forkOp = 0, 0, p.names[:0], false, -1
}

// Len returns the number of ops.
func (p *Program) Len() int { return p.n }

// Op refers to an op of a program under construction.
type Op struct {
	p *Program
	i int
}

// Sys appends a system call. call and object are for errors and traces: what
// is done, to what.
func (p *Program) Sys(call, object string, nr uintptr, args ...uint64) Op {
	if p.n == maxOps {
		p.full = true
		return Op{p, maxOps - 1}
	}
	o := &p.a.ops[p.n]
	*o = op{nr: uint64(nr), onSuccess: opSize, onFailure: opSize}
	copy(o.args[:], args)
	p.names = append(p.names, name{call, object})
	p.n++
	return Op{p, p.n - 1}
}

// Child returns the process of the run under way. It is known once an op of the
// program has told somebody that it runs; 0: it was not made.
func (p *Program) Child() int { return int(int32(atomic.LoadInt64(&p.a.tid))) }

// Index returns the op's place in the program.
func (o Op) Index() int { return o.i }

// Valid tells an op from Op's zero value.
func (o Op) Valid() bool { return o.p != nil }

// Into stores the op's result in argument i of t, an op that comes later.
func (o Op) Into(t Op, i int) Op { return o.store(uintptr(unsafe.Pointer(&t.p.a.ops[t.i].args[i]))) }

// Store stores the op's result in the first 8 bytes of b, memory of Space, for
// an op that comes later to read there.
func (o Op) Store(b []byte) Op { return o.store(uintptr(unsafe.Pointer(&b[0]))) }

func (o Op) store(to uintptr) Op {
	mem := o.p.Space(int(unsafe.Sizeof(patch{})))
	pt := (*patch)(unsafe.Pointer(&mem[0]))
	self := &o.p.a.ops[o.i]
	*pt = patch{to: to, next: self.patches}
	self.patches = uintptr(unsafe.Pointer(pt))
	return o
}

// Allow makes the given errors no failure: the program goes on with the next
// op, or where FailTo says.
func (o Op) Allow(errnos ...syscall.Errno) Op {
	for _, e := range errnos {
		if e < 128 {
			o.p.a.ops[o.i].allow[e>>6] |= 1 << (e & 63)
		}
	}
	return o
}

// AllowAll makes every error no failure.
func (o Op) AllowAll() Op {
	o.p.a.ops[o.i].allow = [2]uint64{^uint64(0), ^uint64(0)}
	return o
}

// Refuse takes errors back from Allow and AllowAll.
func (o Op) Refuse(errnos ...syscall.Errno) Op {
	for _, e := range errnos {
		if e < 128 {
			o.p.a.ops[o.i].allow[e>>6] &^= 1 << (e & 63)
		}
	}
	return o
}

// Retry repeats the op up to n times while it fails with EAGAIN, which
// openat2(2) does when a rename or mount happened under it.
func (o Op) Retry(n int) Op {
	o.p.a.ops[o.i].retries = uint64(n)
	return o
}

// ThenNext makes the op, when it succeeds, continue with the op that will be
// appended next.
func (o Op) ThenNext() { o.p.a.ops[o.i].onSuccess = uint64(o.p.n-o.i) * opSize }

// ElseNext makes the op, when it fails with an allowed error, continue with
// the op that will be appended next.
func (o Op) ElseNext() { o.p.a.ops[o.i].onFailure = uint64(o.p.n-o.i) * opSize }

// Space returns n zeroed bytes of the arena, aligned to 8, with a stable
// address. When the arena is full it returns memory that is not used.
func (p *Program) Space(n int) []byte {
	at := (p.used + 7) &^ 7
	if n > dataSize-at {
		p.full = true
		return make([]byte, max(n, 8))
	}
	p.used = at + n
	b := p.a.data[at:p.used:p.used]
	clear(b)
	return b
}

// Address returns the address of a slice of Space for use as an argument.
func Address(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

// Bytes copies b into the arena and returns its address.
func (p *Program) Bytes(b []byte) uint64 {
	d := p.Space(max(len(b), 1))
	copy(d, b)
	return Address(d)
}

// String copies s with a terminating NUL and returns its address.
func (p *Program) String(s string) uint64 {
	d := p.Space(len(s) + 1)
	copy(d, s)
	return Address(d)
}

// Words copies 64-bit words and returns their address.
func (p *Program) Words(w ...uint64) uint64 {
	d := p.Space(8 * len(w))
	copy(unsafe.Slice((*uint64)(unsafe.Pointer(&d[0])), len(w)), w)
	return Address(d)
}

// Strings copies a NULL-terminated array of strings, as execve(2) wants it, and
// returns its address.
func (p *Program) Strings(list []string) uint64 {
	d := p.Space(8 * (len(list) + 1))
	w := unsafe.Slice((*uint64)(unsafe.Pointer(&d[0])), len(list)+1)
	for i, s := range list {
		w[i] = p.String(s)
	}
	return Address(d)
}

// Options say how the child is made.
type Options struct {
	// Flags are CLONE_NEW*; the rest is the package's business.
	Flags uint64
	// Files gives the child the caller's table of descriptors instead of a copy:
	// what it opens is the caller's, when it has ended too. It must not execute.
	Files bool
	// Cgroup is a directory of cgroup v2 to be born in, or -1.
	Cgroup int
	// PidNS is a pidfd or namespace descriptor whose pid namespace the child
	// is born in, or -1; then OwnPidNS is the caller's own.
	PidNS, OwnPidNS int
	// PidNSKind is the second argument of setns(2): CLONE_NEWPID.
	PidNSKind uint64
}

// Result is a child that was made.
type Result struct {
	Pid   int
	Pidfd int           // the caller must close it
	Began time.Time     // right before clone3
	Took  time.Duration // from then until execve
}

// OpError is an op that failed. The child has ended (exit status 253, or by SIGILL
// where a seccomp filter denies it to exit) but is not reaped.
type OpError struct {
	Index        int
	Call, Object string
	Errno        syscall.Errno
}

func (e *OpError) Error() string {
	if e.Object == "" {
		return e.Call + ": " + e.Errno.Error()
	}
	return e.Call + " " + e.Object + ": " + e.Errno.Error()
}

// Unwrap returns the errno.
func (e *OpError) Unwrap() error { return e.Errno }

// ErrKilled says that the child was killed before the program was through.
var ErrKilled = errors.New("killed before it was executed")

// errLeave says that the thread could not return to its own pid namespace.
var errLeave = errors.New("cannot return to the own pid namespace")

// Lost reports whether err means that the calling thread must not be used any
// more: it may only end.
func Lost(err error) bool { return errors.Is(err, errLeave) }

func (p *Program) arm(o Options, flags uint64) {
	a := p.a
	a.pidfd = -1
	atomic.StoreInt64(&a.tid, 0)
	a.clone = cloneArgs{
		flags:      o.Flags | flags | unix.CLONE_PIDFD | unix.CLONE_PARENT_SETTID,
		pidfd:      uint64(uintptr(unsafe.Pointer(&a.pidfd))),
		parentTID:  uint64(uintptr(unsafe.Pointer(&a.tid))),
		exitSignal: uint64(unix.SIGCHLD),
	}
	if flags&unix.CLONE_VM != 0 {
		a.clone.stack, a.clone.stackSize = uint64(uintptr(unsafe.Pointer(&a.stack))), stackSize
	}
	if o.Files {
		a.clone.flags |= unix.CLONE_FILES
	}
	if o.Cgroup >= 0 {
		a.clone.flags |= unix.CLONE_INTO_CGROUP
		a.clone.cgroup = uint64(o.Cgroup)
	}
	*p.b = block{
		cloneNr: unix.SYS_CLONE3, cloneArg0: uint64(uintptr(unsafe.Pointer(&a.clone))), cloneArg1: uint64(unsafe.Sizeof(a.clone)),
		ops: uintptr(unsafe.Pointer(&a.ops)), end: uintptr(unsafe.Pointer(&a.ops)) + uintptr(p.n)*uintptr(opSize),
		enter: -1, leave: -1, allSignals: ^uint64(0),
	}
	if p.forkOp >= 0 {
		p.b.fork, a.last = uintptr(unsafe.Pointer(&a.ops[p.forkOp])), 0
		a.fork.flags |= flags &^ unix.CLONE_CLEAR_SIGHAND // they are cleared
	}
	if o.PidNS >= 0 {
		p.b.enter, p.b.leave, p.b.enterKind = int64(o.PidNS), int64(o.OwnPidNS), o.PidNSKind
	}
	p.before = time.Now()
}

// collect turns what the interpreter left behind into a result.
func (p *Program) collect() (Result, error) {
	p.after = time.Now()
	b := p.b
	r := Result{Pid: int(b.cloned), Pidfd: int(int32(p.a.pidfd)), Began: p.before, Took: p.after.Sub(p.before)}
	switch {
	case b.enterErr != 0:
		return Result{Pidfd: -1}, &OpError{-1, "setns", "pid namespace", syscall.Errno(-b.enterErr)}
	case b.cloned < 0 && b.leaveErr == 0:
		return Result{Pidfd: -1}, &OpError{-1, "clone3", "", syscall.Errno(-b.cloned)}
	case b.leaveErr != 0:
		return r, errLeave
	}
	return r, nil
}

// Run runs the program in a child that shares the caller's memory and returns
// when the child has executed another program, or ended.
//
// The last op must be one that does not return when it succeeds (execve(2),
// exit_group(2)). Errors: ErrTooLong (nothing was run), *OpError, ErrKilled.
// With an *OpError whose Index is not negative, and with ErrKilled, Result
// names a child that has ended and which the caller must reap.
func (p *Program) Run(o Options) (Result, error) {
	if p.full {
		return Result{Pidfd: -1}, ErrTooLong
	}
	p.arm(o, unix.CLONE_VM|unix.CLONE_VFORK|unix.CLONE_CLEAR_SIGHAND)
	start(p.b)
	r, err := p.collect()
	if err != nil {
		return r, err
	}
	if p.forkOp >= 0 {
		return p.handOver(r)
	}
	return r, p.outcome()
}

// Outcome tells how far the child of a spawned program came, once it is known to
// have executed another program or ended: as Run.
func (p *Program) Outcome() error { return p.outcome() }

// outcome tells how far the child came.
func (p *Program) outcome() error {
	b := p.b
	if b.failed != 0 {
		i := p.index(b.failed)
		if i < 0 || i >= p.n { // tampered with
			return ErrKilled
		}
		return &OpError{i, p.names[i].call, p.names[i].object, syscall.Errno(b.errno)}
	}
	i := p.index(b.progress)
	if i >= p.n { // fell off the end: the last op returned
		return &OpError{p.n - 1, p.names[p.n-1].call, p.names[p.n-1].object, p.Errno(p.n - 1)}
	}
	if i < 0 { // before the first op, or tampered with
		return ErrKilled
	}
	if nr := p.a.ops[i].nr; b.progress == 0 || nr != unix.SYS_EXECVE && nr != unix.SYS_EXECVEAT && nr != unix.SYS_EXIT_GROUP {
		return ErrKilled
	}
	return nil
}

func (p *Program) index(addr uintptr) int {
	return int(addr-uintptr(unsafe.Pointer(&p.a.ops))) / int(opSize)
}

// Spawn runs the program in a child with memory of its own, and returns at
// once. The program should contain an op that waits (read(2) from a pipe);
// Progress tells whether it was reached. It needs an arena of kind Parked or Apart.
func (p *Program) Spawn(o Options) (Result, error) {
	if p.full {
		return Result{Pidfd: -1}, ErrTooLong
	}
	p.arm(o, unix.CLONE_CLEAR_SIGHAND)
	start(p.b)
	return p.collect()
}

// Progress returns the index of the op under way in a spawned child, or the
// error with which it stopped.
func (p *Program) Progress() (int, error) {
	b := p.b
	if b.failed != 0 {
		return -1, p.outcome()
	}
	if b.progress == 0 {
		return -1, nil
	}
	return p.index(b.progress), nil
}

// Errno returns the error of op i in the last run, 0 if it succeeded or was
// not reached.
func (p *Program) Errno(i int) syscall.Errno {
	if r := p.a.ops[i].result; r < 0 {
		return syscall.Errno(-r)
	}
	return 0
}

// Step is one op of a program that ran.
type Step struct {
	Call, Object string
	Took         time.Duration
	Errno        syscall.Errno // allowed, or the one it failed with
}

// Steps returns the ops of the last run that were executed, with how long each
// took. The first step is the clone; the last is execve until the caller was
// released.
func (p *Program) Steps() iter.Seq[Step] {
	return func(yield func(Step) bool) {
		b := p.b
		// The clock's frequency is not known; both ends of the run are.
		ticks := max(float64(b.released-b.began), 1)
		scale := float64(p.after.Sub(p.before)) / ticks
		at := b.entered
		if !yield(Step{Call: "clone3", Took: time.Duration(float64(at-b.began) * scale)}) {
			return
		}
		for i := range p.n {
			o := &p.a.ops[i]
			t := o.time
			if b.progress == uintptr(unsafe.Pointer(o)) {
				t = b.released
			}
			if t == 0 {
				continue // skipped
			}
			if !yield(Step{p.names[i].call, p.names[i].object, time.Duration(float64(t-at) * scale), p.Errno(i)}) {
				return
			}
			at = t
			if b.progress == uintptr(unsafe.Pointer(o)) {
				return
			}
		}
	}
}
