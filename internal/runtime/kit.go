package runtime

import (
	"context"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/linux/idmap"
	"lade/internal/linux/ns"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/sys"
	"lade/internal/program"
	"lade/internal/trace"
)

// kit is for one user namespace what the stock is for containers without: an IPC
// namespace and file systems belong to the user namespace in which they are made.
// It is of what the last start with a user namespace wanted, and made by Restock for
// a namespace of NewUser's, which a container will live in soon.
type kit struct {
	id   ns.ID // of the user namespace
	ids  idmap.Map
	user int // its descriptor, ours, until the kit is made
	ipc  int // or 0
	lots []lot
}

// maxKits is how many are kept, and waited for: about as many as containers are
// started at a time.
const maxKits = 4

func (k *kit) close() {
	sys.CloseAll(k.user)
	if k.ipc > 0 {
		sys.CloseAll(k.ipc)
	}
	for _, l := range k.lots {
		sys.CloseAll(l.fd)
	}
}

// expect notes that a container will live in a user namespace, a descriptor that
// stays the caller's.
func (s *stock) expect(user int, ids idmap.Map) {
	k := &kit{ids: ids}
	var err error
	if k.id, err = ns.IDOf(user); err != nil {
		return
	}
	if k.user, err = unix.FcntlInt(uintptr(user), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.wants[1].empty() {
		sys.CloseAll(k.user)
		return
	}
	s.expected = keepLast(append(s.expected, k))
}

// keepLast closes all but the last of a list.
func keepLast(list []*kit) []*kit {
	for len(list) > maxKits {
		list[0].close()
		list = slices.Delete(list, 0, 1)
	}
	return list
}

// kitOf hands over the kit of a user namespace, or nil. Nothing is made for it any
// more.
func (s *stock) kitOf(user int) *kit {
	id, err := ns.IDOf(user)
	if err != nil {
		return nil
	}
	same := func(k *kit) bool { return k.id == id }
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.expected, same); i >= 0 {
		s.expected[i].close()
		s.expected = slices.Delete(s.expected, i, i+1)
	}
	i := slices.IndexFunc(s.kits, same)
	if i < 0 {
		return nil
	}
	k := s.kits[i]
	s.kits = slices.Delete(s.kits, i, i+1)
	return k
}

// nextKit returns one that is to be made, and of what, or nil.
func (s *stock) nextKit() (*kit, list) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.expected) == 0 {
		return nil, list{}
	}
	k := s.expected[0]
	s.expected = slices.Delete(s.expected, 0, 1)
	return k, s.wants[1]
}

func (s *stock) putKit(k *kit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		k.close()
		return
	}
	s.kits = keepLast(append(s.kits, k))
}

// closeKits closes all kits; s.mu is held.
func (s *stock) closeKits() {
	for _, k := range slices.Concat(s.expected, s.kits) {
		k.close()
	}
	s.expected, s.kits = nil, nil
}

// makeKits makes those that are expected.
func (l *Launcher) makeKits() error {
	for {
		k, wants := l.stock.nextKit()
		if k == nil {
			return nil
		}
		if err := l.makeKit(k, wants); err != nil {
			k.close()
			return err
		}
		l.stock.putKit(k)
	}
}

func (l *Launcher) makeKit(k *kit, wants list) error {
	var inside []lot
	for _, m := range wants.mounts {
		switch {
		case m.kind == "mqueue" && !wants.ipc:
		case m.inside != defaultDev: // the namespace's root can make it
			inside = append(inside, m)
		default:
			if err := m.make(l); err != nil {
				return err
			}
			k.lots = append(k.lots, m)
			if err := giveDev(m.fd, k.ids); err != nil {
				return err
			}
		}
	}
	if err := l.makeInside(k, wants.ipc, inside); err != nil {
		return err
	}
	k.lots = append(k.lots, inside...)
	sys.CloseAll(k.user)
	k.user = -1
	return nil
}

// giveDev gives what fillDev has made to the root of a user namespace.
func giveDev(dir int, ids idmap.Map) error {
	uid, gid, ok := ids.Host(0, 0)
	if !ok {
		return nil
	}
	names := []string{"."}
	for _, d := range defaultDevices() {
		names = append(names, strings.TrimPrefix(d.path, "/dev/"))
	}
	for _, l := range devLinks() {
		names = append(names, l[1])
	}
	for _, name := range names {
		if err := unix.Fchownat(dir, name, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return sys.Error("fchownat", "/dev/"+name, err)
		}
	}
	return nil
}

// makeInside makes what the user namespace's root can, in a process that is it.
func (l *Launcher) makeInside(k *kit, ipc bool, mounts []lot) (err error) {
	span := trace.Begin(trace.Process, "unshare", "ipc namespace and mounts of a user namespace")
	defer func() { err = span.End(err) }()
	p, err := l.take()
	if err != nil {
		return err
	}
	defer l.give(p)
	b := newBuilder(l, p)
	base, err := b.base()
	if err != nil {
		return err
	}
	var fds opened
	dir := fds.ownDir(p)
	p.Sys("setns", "empty mount namespace", unix.SYS_SETNS, uint64(base), unix.CLONE_NEWNS)
	p.Sys("setns", "user namespace", unix.SYS_SETNS, uint64(k.user), unix.CLONE_NEWUSER)
	b.becomeRoot()
	p.Sys("umask", "", unix.SYS_UMASK, 0)
	flags := uint64(unix.CLONE_NEWNS)
	if ipc {
		flags |= unix.CLONE_NEWIPC
	}
	p.Sys("unshare", "namespaces", unix.SYS_UNSHARE, flags)
	if ipc {
		fds.namespace(b, dir, unix.CLONE_NEWIPC, &k.ipc)
	}
	for i := range mounts {
		m := &mounts[i]
		context, fs := b.newFilesystem(m.kind, m.split(), m.attrs)
		fds.add(p, context, nil)
		fds.add(p, fs, &m.fd)
		if m.inside == cgroupDirs {
			b.emptyCgroups(result(fs))
		}
	}
	p.Sys("exit_group", "", unix.SYS_EXIT_GROUP, 0)
	r, err := l.run(context.Background(), p, program.Options{Cgroup: -1, PidNS: -1, Files: true}, "kit")
	if err == nil {
		_, _, _ = pidfd.Wait(r.Pidfd) // whoever reaps every child may have been here before
		sys.CloseAll(r.Pidfd)
	}
	fds.collect(err)
	return err
}
