package cgroup

import (
	"fmt"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/trace"
)

// memory returns the hierarchy of the memory controller.
func (g *Group) memory() (*hierarchy, error) {
	m, ok := g.h.at["memory"]
	if !ok {
		return nil, errdefs.Unavailablef("this host has no memory control group controller")
	}
	return m, nil
}

// OOMNotify returns a descriptor that becomes readable when the group runs out
// of memory or, on v1, is removed: an eventfd (v1) or an inotify descriptor
// (v2). Read it empty, then ask OOMKills. It is close-on-exec and does not
// block; the caller closes it. Errors: NotFound; Unavailable if the host has no
// memory controller.
//
// Source: Documentation/admin-guide/cgroup-v1/memory.rst, "OOM Control";
// cgroup-v2.rst, "memory.events".
func (g *Group) OOMNotify() (fd int, err error) {
	m, err := g.memory()
	if err != nil {
		return -1, err
	}
	if m.v2 {
		return g.oomInotify(m)
	}
	control, err := m.open(g.path, "memory.oom_control", unix.O_RDONLY)
	if err != nil {
		return -1, g.missing(m, err)
	}
	defer unix.Close(control)
	if fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return -1, os.NewSyscallError("eventfd", err)
	}
	if err := m.write(g.path, "cgroup.event_control", fmt.Sprintf("%d %d", fd, control)); err != nil {
		unix.Close(fd)
		return -1, g.missing(m, err)
	}
	return fd, nil
}

func (g *Group) oomInotify(m *hierarchy) (int, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return -1, os.NewSyscallError("inotify_init1", err)
	}
	// By way of the mount point's descriptor: the path may mean something else
	// in this mount namespace.
	name := path.Join("/proc/self/fd", strconv.Itoa(m.dir), g.path, "memory.events")
	span := trace.Begin(trace.Cgroup, "inotify_add_watch", m.name(g.path, "memory.events"))
	if _, err := unix.InotifyAddWatch(fd, name, unix.IN_MODIFY); span.End(err) != nil {
		unix.Close(fd)
		return -1, g.missing(m, &os.PathError{Op: "inotify_add_watch", Path: name, Err: err})
	}
	return fd, nil
}

// OOMKills returns how many processes of the group and of the groups below it
// the kernel killed for memory. Errors: NotFound; Unavailable if the host has
// no memory controller.
func (g *Group) OOMKills() (uint64, error) {
	m, err := g.memory()
	if err != nil {
		return 0, err
	}
	return g.oomKills(m, g.path)
}

// oomFile is the file that counts kills for memory.
func (m *hierarchy) oomFile() string {
	if m.v2 {
		return "memory.events" // counts what is below too
	}
	return "memory.oom_control" // counts the group alone
}

// OOMFile returns the file that counts the processes of the group at path which
// the kernel killed for memory, there or not; ReadOOMKills understands it.
// Errors: Invalid; Unavailable if the host has no memory controller.
func (h *Host) OOMFile(path string) (string, error) {
	rel, err := clean(path)
	if err != nil {
		return "", err
	}
	g := &Group{h: h, path: rel}
	m, err := g.memory()
	if err != nil {
		return "", err
	}
	return m.name(rel, m.oomFile()), nil
}

// ReadOOMKills returns the count that the content of an OOMFile has.
func ReadOOMKills(content string) uint64 {
	v, _ := field(content, "oom_kill")
	return number(v)
}

func (g *Group) oomKills(m *hierarchy, group string) (uint64, error) {
	content, err := m.read(group, m.oomFile())
	if err != nil {
		return 0, g.missing(m, err)
	}
	n := ReadOOMKills(content)
	if m.v2 {
		return n, nil
	}
	for _, name := range m.children(group) {
		below, err := g.oomKills(m, join(group, name))
		if err != nil && !isGone(err) {
			return 0, err
		}
		n += below
	}
	return n, nil
}
