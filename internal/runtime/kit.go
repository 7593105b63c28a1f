package runtime

import (
	"context"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/linux/idmap"
	"lade/internal/linux/sys"
	"lade/internal/program"
	"lade/internal/trace"
)

// kit is a user namespace for a container with certain ids, and for that what the stock
// is for containers without one: an IPC namespace and file systems belong to the user
// namespace in which they are made. It is of what the last start with a user
// namespace wanted, and made by Restock for ids that were announced
// (Container.Next).
type kit struct {
	ids  idmap.Map
	user int // or 0
	ipc  int // or 0
	lots []lot
}

// maxKits is how many are kept, and how many are to be made: about as many as
// containers are started at a time.
const maxKits = 4

func (k *kit) close() {
	for _, fd := range []int{k.user, k.ipc} {
		if fd > 0 {
			sys.CloseAll(fd)
		}
	}
	for _, l := range k.lots {
		sys.CloseAll(l.fd)
	}
}

// expect notes the ids of a container that will be started soon.
func (s *stock) expect(ids idmap.Map) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || slices.ContainsFunc(slices.Concat(s.expected, s.kits), func(k *kit) bool { return k.ids.Equal(ids) }) {
		return
	}
	s.expected = keepLast(append(s.expected, &kit{ids: ids}))
}

// keepLast closes all but the last of a list.
func keepLast(list []*kit) []*kit {
	for len(list) > maxKits {
		list[0].close()
		list = slices.Delete(list, 0, 1)
	}
	return list
}

// kitFor hands over a kit for certain ids, or nil. None is made for them any more.
func (s *stock) kitFor(ids idmap.Map) *kit {
	same := func(k *kit) bool { return k.ids.Equal(ids) }
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expected = slices.DeleteFunc(s.expected, same)
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
func (l *Launcher) makeKits() {
	for k, wants := l.stock.nextKit(); k != nil; k, wants = l.stock.nextKit() {
		if err := l.makeKit(k, wants); err != nil {
			l.log.Debug("no kit, or not all of it", "error", err)
		}
		if k.user > 0 {
			l.stock.putKit(k)
		}
	}
}

// makeKit makes the user namespace, and as much of the rest as it can.
func (l *Launcher) makeKit(k *kit, wants list) error {
	user, _, err := l.NewUser(context.Background(), k.ids, false)
	if err != nil {
		return err
	}
	k.user = user
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
			if err := giveDev(m.fd, k.ids); err != nil {
				sys.CloseAll(m.fd)
				return err
			}
			k.lots = append(k.lots, m)
		}
	}
	if !wants.ipc && len(inside) == 0 {
		return nil
	}
	if err := l.makeInside(k, wants.ipc, inside); err != nil {
		return err
	}
	k.lots = append(k.lots, inside...)
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
		l.reap(r)
	}
	fds.collect(err)
	return err
}
