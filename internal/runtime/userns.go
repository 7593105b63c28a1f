package runtime

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/idmap"
	"lade/internal/linux/ns"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/sys"
	"lade/internal/program"
)

// user is a container's user namespace. It exists before the program runs,
// because the mounts that are made beforehand are translated by it.
//
// The program of such a container has two parts, each run by a process of its
// own (program.Fork). The first is root of the host: it joins what is to be
// joined and makes what only the host's root can, such as device nodes; then it
// enters the user namespace. The second begins in namespaces that belong to
// the user namespace, and does the rest as its root.
type user struct {
	fd   int
	ids  idmap.Map
	uid  uint32 // of its root, in the host
	gid  uint32
	news uint64 // the namespaces that are new and belong to it
	// inSight says that proc and sysfs are in sight in a copy of our mount namespace.
	inSight bool
	// made are file systems and devices that the first part has made, by the
	// place where they belong.
	made map[string]ref
}

// enterUser opens or makes the container's user namespace, if it has one.
func (b *builder) enterUser(ctx context.Context, c *Container) error {
	i := userNamespace(c.Spec.Linux)
	if i < 0 {
		return nil
	}
	li := c.Spec.Linux
	u := &user{fd: c.UserNS, ids: idmap.Map{UID: li.UIDMappings, GID: li.GIDMappings}, made: map[string]ref{}}
	var err error
	switch from := li.Namespaces[i].Path; {
	case c.UserNS > 0:
	case from != "":
		if u.fd, err = unix.Open(from, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return &StartError{Code: codeFailed, Op: "namespace path", Path: from, Errno: errnoOf(err)}
		}
		b.own(u.fd)
		// It has its map already, whatever the spec says.
		if u.ids, err = b.l.idsOf(ctx, u.fd); err != nil {
			return err
		}
	default:
		if u.fd, u.inSight, err = b.makeUser(ctx, u.ids); err != nil {
			return err
		}
	}
	var ok bool
	if u.uid, u.gid, ok = u.ids.Host(0, 0); !ok {
		return errdefs.Invalidf("the user namespace has no root: nothing is mapped to 0")
	}
	b.user = u
	return nil
}

// makeUser takes a user namespace that is ready for certain ids, or makes one. inSight:
// as ahead.inSight.
func (b *builder) makeUser(ctx context.Context, ids idmap.Map) (fd int, inSight bool, err error) {
	if fd, ok := b.l.ahead.take(unix.CLONE_NEWUSER); ok {
		return b.own(fd), b.l.ahead.inSight, nil
	}
	if b.kit = b.l.stock.kitFor(ids); b.kit != nil {
		return b.kit.user, false, nil
	}
	fd, _, err = b.l.NewUser(ctx, ids, false)
	return b.own(fd), false, err
}

// userNamespace returns where in the list of namespaces it is, or -1.
func userNamespace(li *specs.Linux) int {
	return slices.IndexFunc(li.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
}

// joinUser notes the user namespace of a running container, if it is not ours.
func (b *builder) joinUser(pid int) error {
	theirs, err := ns.Of(pid, unix.CLONE_NEWUSER)
	if err != nil {
		return err
	}
	if ours, err := b.l.host.user(); err != nil || theirs == ours {
		return err
	}
	b.user = &user{fd: -1}
	b.user.ids, err = idmap.Of(pid)
	return err
}

// mapping is a user namespace that only translates: for mounts with a map of
// their own.
type mapping struct {
	ids idmap.Map
	fd  int
}

// makeMaps makes those that the mounts of a spec need.
func (b *builder) makeMaps(ctx context.Context, s *specs.Spec) error {
	for _, m := range s.Mounts {
		ids := idmap.Map{UID: m.UIDMappings, GID: m.GIDMappings}
		if ids.Empty() || b.mapping(ids) >= 0 {
			continue
		}
		fd, _, err := b.l.NewUser(ctx, ids, false)
		if err != nil {
			return err
		}
		b.maps = append(b.maps, mapping{ids, b.own(fd)})
	}
	return nil
}

// mapping returns the user namespace with a map, or -1.
func (b *builder) mapping(ids idmap.Map) int {
	if b.user != nil && ids.Equal(b.user.ids) {
		return b.user.fd
	}
	for _, m := range b.maps {
		if m.ids.Equal(ids) {
			return m.fd
		}
	}
	return -1
}

// idsOf returns the map of a user namespace.
func (l *Launcher) idsOf(ctx context.Context, fd int) (ids idmap.Map, err error) {
	o := program.Options{Cgroup: -1, PidNS: -1}
	err = l.hold(ctx, o, func(p *program.Program) {
		p.Sys("setns", "user namespace", unix.SYS_SETNS, uint64(fd), unix.CLONE_NEWUSER)
	}, func(pid int) (err error) {
		ids, err = idmap.Of(pid)
		return err
	})
	return ids, err
}

// hold runs a program that waits, after the ops of first, until f has looked at
// its process.
func (l *Launcher) hold(ctx context.Context, o program.Options, first func(*program.Program), f func(pid int) error) error {
	p, err := l.take()
	if err != nil {
		return err
	}
	defer l.give(p)
	var at [2]int // it is there; go on
	for i := range at {
		if at[i], err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
			return sys.Error("eventfd", "", err)
		}
		defer sys.CloseAll(at[i])
	}
	if first != nil {
		first(p)
	}
	p.Sys("write", "eventfd", unix.SYS_WRITE, uint64(at[0]), p.Words(1), 8)
	p.Sys("read", "eventfd", unix.SYS_READ, uint64(at[1]), program.Address(p.Space(8)), 8)
	p.Sys("exit_group", "", unix.SYS_EXIT_GROUP, 0)
	one := binary.NativeEndian.AppendUint64(nil, 1)
	looked := make(chan error, 1)
	go func() {
		var buf [8]byte
		err := sys.Retry(func() error { _, err := unix.Read(at[0], buf[:]); return err })
		if pid := p.Child(); err == nil && pid > 0 {
			err = f(pid)
		}
		_, werr := unix.Write(at[1], one)
		looked <- errors.Join(err, werr)
	}()
	r, err := l.run(ctx, p, o, "user namespace")
	if err != nil {
		// The other side may still wait for the child.
		_, werr := unix.Write(at[0], one)
		<-looked
		return errors.Join(err, werr)
	}
	_, _, werr := pidfd.Wait(r.Pidfd)
	sys.CloseAll(r.Pidfd)
	return errors.Join(<-looked, werr)
}
