package selfpipe

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/sys"
)

// Pipe receives signals.
type Pipe struct {
	read    int
	signals []unix.Signal
	before  []action // what was done about them
}

// action is the kernel's struct sigaction.
type action struct {
	handler, flags, restorer, mask uintptr
}

// writeEnd is where the handler writes, for it has no argument of ours.
var writeEnd int32 = -1

// Where the assembly is.
var handlerPC, restorerPC uintptr

const (
	restart    = 0x10000000 // SA_RESTART
	onStack    = 0x08000000 // SA_ONSTACK
	everything = ^uintptr(0)
)

// New has the signals written to a pipe from now on. The caller must Close.
func New(signals ...unix.Signal) (_ *Pipe, err error) {
	if writeEnd >= 0 {
		return nil, errdefs.Internalf("there is a self-pipe already")
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, sys.Error("pipe2", "signals", err)
	}
	p := &Pipe{read: fds[0]}
	writeEnd = int32(fds[1])
	for _, s := range signals {
		now := action{handler: handlerPC, flags: onStack | restart | restorerFlag, restorer: restorerPC, mask: everything}
		var before action
		if err := setAction(s, &now, &before); err != nil {
			p.Close()
			return nil, err
		}
		p.signals, p.before = append(p.signals, s), append(p.before, before)
	}
	return p, nil
}

func setAction(s unix.Signal, now, before *action) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(now)), uintptr(unsafe.Pointer(before)), 8, 0, 0)
	if errno != 0 {
		return sys.Error("rt_sigaction", unix.SignalName(s), errno)
	}
	return nil
}

// FD returns a descriptor that can be read from when a signal has come. It is
// the Pipe's.
func (p *Pipe) FD() int { return p.read }

// Read returns the signals that have come, in their order. It does not wait.
// Of signals that come faster than they are read, some are lost, as the kernel
// does with those that are pending already.
func (p *Pipe) Read() []unix.Signal {
	var buf [64]byte
	n, _ := unix.Read(p.read, buf[:]) // EAGAIN: none
	out := make([]unix.Signal, 0, max(n, 0))
	for i := range max(n, 0) {
		out = append(out, unix.Signal(buf[i]))
	}
	return out
}

// Close has the signals do again what they did before.
func (p *Pipe) Close() {
	for i, s := range p.signals {
		_ = setAction(s, &p.before[i], nil) // it was in force before
	}
	sys.CloseAll(p.read, int(writeEnd))
	writeEnd = -1
}
