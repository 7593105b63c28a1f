package runtime

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/linux/ns"
	"lade/internal/linux/sys"
)

// ahead are namespaces of a launcher's one container (Options.Ahead), made on a
// second processor while the first one reads what the host has and makes control
// groups. A network namespace takes longest of all that a start asks of the
// kernel, an IPC namespace comes next. (An empty mount namespace does not pay: to
// make it takes more than it spares the child.)
//
// What cannot be made is left to the child, whose failures have their words.
type ahead struct {
	kinds  uint64         // CLONE_NEW* of what is asked for
	made   map[uint64]int // descriptors by kind
	done   chan struct{}  // closed when made is complete
	beside func()         // what is done afterwards (Options.Beside); nil: nothing
	over   chan struct{}  // closed when that is done, too
}

// aheadKinds returns what of the specification can be made ahead.
func aheadKinds(s *specs.Spec) (kinds uint64) {
	for _, n := range s.Linux.Namespaces {
		switch n.Type {
		case specs.UserNamespace:
			return 0 // the others are to belong to it
		case specs.NetworkNamespace, specs.IPCNamespace:
			if n.Path == "" {
				kinds |= ns.Flag(string(n.Type))
			}
		}
	}
	return kinds
}

// newAhead begins to make what s asks for and to do what is to be done beside,
// and returns at once; nil if that is nothing.
func newAhead(s *specs.Spec, beside func()) *ahead {
	a := &ahead{made: map[uint64]int{}, done: make(chan struct{}), beside: beside, over: make(chan struct{})}
	if s != nil && s.Linux != nil {
		a.kinds = aheadKinds(s)
	}
	if a.kinds == 0 && beside == nil {
		return nil
	}
	ns.Go(a.run) // whose thread ends with it
	return a
}

func (a *ahead) run() {
	defer close(a.over)
	a.make()
	if a.beside != nil {
		a.beside()
	}
}

func (a *ahead) make() {
	defer close(a.done)
	if a.kinds == 0 || unix.Unshare(int(a.kinds)) != nil {
		return
	}
	for _, kind := range []uint64{unix.CLONE_NEWNET, unix.CLONE_NEWIPC} {
		if a.kinds&kind == 0 || kind == unix.CLONE_NEWNET && loopbackUp() != nil {
			continue
		}
		if fd, err := ns.Open(0, kind); err == nil {
			a.made[kind] = fd
		}
	}
}

// take waits for the namespace of a kind and hands it over. ok is false when
// there is none: the child is to make it.
func (a *ahead) take(kind uint64) (fd int, ok bool) {
	if a == nil || a.kinds&kind == 0 {
		return -1, false
	}
	<-a.done
	fd, ok = a.made[kind]
	delete(a.made, kind)
	return fd, ok
}

// close closes what nobody has taken.
func (a *ahead) close() {
	if a == nil {
		return
	}
	<-a.over
	for _, fd := range a.made {
		sys.CloseAll(fd)
	}
}

// loopbackUp brings the device lo of the calling thread's network namespace up,
// as builder.loopback does in the child's.
func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return sys.Error("socket", "", err)
	}
	defer sys.CloseAll(s)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return sys.Error("SIOCSIFFLAGS", "lo", unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo))
}
