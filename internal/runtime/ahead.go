package runtime

import (
	"context"
	"maps"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/linux/idmap"
	"lade/internal/linux/mount"
	"lade/internal/linux/ns"
	"lade/internal/linux/sys"
)

// ahead are namespaces of a launcher's one container (Options.Ahead), made on a
// second processor while the first one reads what the host has and makes control
// groups. A network namespace takes longest of all that a start asks of the
// kernel, an IPC namespace comes next. (An empty mount namespace does not pay: to
// make it takes more than it spares the child.) A user namespace, which owns the
// others, comes first.
//
// What cannot be made is left to the child, whose failures have their words.
type ahead struct {
	kinds uint64              // CLONE_NEW* of what is asked for
	taken uint64              // of them what was handed over
	made  map[uint64]chan int // by kind: gets the descriptor, or -1
	// inSight says that proc and sysfs of the host are: mount.InSight. It is known
	// when the user namespace is, and not asked for without one.
	inSight bool
	beside  func()        // what is done afterwards (Options.Beside); nil: nothing
	over    chan struct{} // closed when all is done
}

// aheadKinds returns what of the specification can be made ahead.
func aheadKinds(s *specs.Spec) (kinds uint64) {
	for _, n := range s.Linux.Namespaces {
		switch n.Type {
		case specs.UserNamespace:
			if n.Path != "" {
				return 0 // the others are to belong to it
			}
			kinds |= unix.CLONE_NEWUSER
		case specs.NetworkNamespace, specs.IPCNamespace:
			if n.Path == "" {
				kinds |= ns.Flag(string(n.Type))
			}
		}
	}
	return kinds
}

// newAhead begins to make what s asks for and then to do what is to be done
// beside, and returns at once; nil if that is nothing.
func (l *Launcher) newAhead(s *specs.Spec, beside func()) *ahead {
	a := &ahead{made: map[uint64]chan int{}, beside: beside, over: make(chan struct{})}
	if s != nil && s.Linux != nil {
		a.kinds = aheadKinds(s)
	}
	owned := a.kinds&unix.CLONE_NEWUSER != 0
	if owned && l.host.nested {
		a.kinds, owned = 0, false
	}
	if a.kinds == 0 && beside == nil {
		return nil
	}
	for _, kind := range []uint64{unix.CLONE_NEWUSER, unix.CLONE_NEWNET, unix.CLONE_NEWIPC} {
		if a.kinds&kind != 0 {
			a.made[kind] = make(chan int, 1)
		}
	}
	switch {
	case owned:
		ids := idmap.Map{UID: s.Linux.UIDMappings, GID: s.Linux.GIDMappings}
		go a.run(func() { a.makeOwned(l, ids) })
	case a.kinds != 0:
		ns.Go(func() { a.run(a.make) }) // whose thread ends with it
	default:
		go a.run(func() {})
	}
	return a
}

func (a *ahead) run(make func()) {
	defer close(a.over)
	make()
	if a.beside != nil {
		a.beside()
	}
}

// make makes namespaces that belong to the user namespace that we are in.
func (a *ahead) make() {
	err := unix.Unshare(int(a.kinds))
	for kind, made := range a.made {
		fd := -1
		if err == nil && (kind != unix.CLONE_NEWNET || loopbackUp() == nil) {
			fd, _ = ns.Open(0, kind)
		}
		made <- fd
	}
}

// makeOwned makes a user namespace and those that belong to it. The caller of take
// may be through with the first while the others are made.
func (a *ahead) makeOwned(l *Launcher, ids idmap.Map) {
	kinds := slices.DeleteFunc(slices.Collect(maps.Keys(a.made)), func(k uint64) bool { return k == unix.CLONE_NEWUSER })
	user, own := -1, -1
	p, err := l.take()
	if err == nil {
		defer l.give(p)
		user, err = l.mapped(context.Background(), p, ids)
	}
	if err == nil {
		a.inSight = hostInSight()
		own, err = unix.FcntlInt(uintptr(user), unix.F_DUPFD_CLOEXEC, 0)
	}
	a.made[unix.CLONE_NEWUSER] <- user
	fds := slices.Repeat([]int{-1}, len(kinds))
	if err == nil && len(kinds) > 0 {
		if made, err := l.owned(context.Background(), p, own, true, kinds...); err == nil {
			fds = made
		}
	}
	sys.CloseAll(own)
	for i, kind := range kinds {
		a.made[kind] <- fds[i]
	}
}

// hostInSight reports whether a container can mount its proc and sysfs in a copy of
// the host's mount namespace.
func hostInSight() bool {
	raw, err := sys.ReadFile("/proc/self/mountinfo")
	return err == nil && mount.InSight(string(raw))
}

// take waits for the namespace of a kind and hands it over. ok is false when
// there is none: the child is to make it.
func (a *ahead) take(kind uint64) (fd int, ok bool) {
	if a == nil || a.kinds&^a.taken&kind == 0 {
		return -1, false
	}
	a.taken |= kind
	fd = <-a.made[kind]
	return fd, fd >= 0
}

// close closes what nobody has taken.
func (a *ahead) close() {
	if a == nil {
		return
	}
	for kind := range a.made {
		if fd, ok := a.take(kind); ok {
			sys.CloseAll(fd)
		}
	}
	<-a.over
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
