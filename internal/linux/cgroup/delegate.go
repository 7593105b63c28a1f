package cgroup

import (
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// payload is the name of a delegated group, as systemd-nspawn(1) has it.
const payload = "payload"

// Delegate makes a group below g for processes that make groups themselves: a
// service manager, another engine. The limits stay on g, where those processes
// cannot lift them; on version 1 nothing else would keep them from it. The new
// group is in the hierarchies without controllers too, such as name=systemd,
// where others are not. g must not have processes. Errors: as Create.
//
// Source: https://systemd.io/CGROUP_DELEGATION; Documentation/admin-guide/cgroup-v2.rst,
// "Delegation".
func (g *Group) Delegate() (*Group, error) {
	below, err := g.h.Create(join(g.path, payload), nil)
	if err != nil {
		return nil, err
	}
	below.delegated = true
	for _, m := range g.h.named {
		if err := g.h.make(m, below.path, &plan{}, false); err != nil {
			return nil, err
		}
	}
	return below, nil
}

// leaf is where the first processes of a delegated group are on version 2. Under
// that name systemd looks for its root one above.
const leaf = "init.scope"

// Leaf makes, on version 2, a group below a delegated one for its first process,
// and returns the descriptor of its cgroup.procs: writing "0" there moves the
// writer. Elsewhere it returns -1. Where groups below have controllers there can
// be no processes: one that makes such groups would have to get out of its own
// way first, which systemd does and engines do not. The process must be born in
// the delegated group all the same, as that is to be the root of its namespace.
// The caller closes the descriptor.
//
// Source: Documentation/admin-guide/cgroup-v2.rst, "No Internal Process
// Constraint"; manager_setup_cgroup in systemd's src/core/cgroup.c.
func (g *Group) Leaf() (procs int, err error) {
	if g.h.Version() != V2 {
		return -1, nil
	}
	if err := g.h.unified.mkdir(join(g.path, leaf)); err != nil {
		return -1, err
	}
	return g.h.unified.open(join(g.path, leaf), "cgroup.procs", unix.O_WRONLY)
}

// Give makes the group one of a user of the host's: it can make groups below and
// move its own processes into them, and no more. Its leaf is given with it, and
// the group in the named hierarchies, where it is in those.
// Errors: of the file system.
//
// Source: cgroups(7), "Cgroups v2 delegation"; cgroup_procs_write_permission in
// kernel/cgroup for both versions.
func (g *Group) Give(uid, gid int) error {
	for _, m := range slices.Concat(g.h.v1, g.h.named, g.unified()) {
		files := []string{"cgroup.procs", "tasks"}
		if m.v2 {
			files = delegable()
		}
		for _, file := range append(files, "") {
			for _, group := range []string{g.path, join(g.path, leaf)} {
				err := unix.Fchownat(m.dir, join(group, file), uid, gid, unix.AT_SYMLINK_NOFOLLOW)
				if err != nil && err != unix.ENOENT { // of a controller that is off; no leaf
					return &os.PathError{Op: "chown", Path: m.name(group, file), Err: err}
				}
			}
		}
	}
	return nil
}

// delegable are the files of a version 2 group that may be given away.
func delegable() []string {
	list, err := os.ReadFile("/sys/kernel/cgroup/delegate") // Linux 4.15
	if err != nil {
		return []string{"cgroup.procs", "cgroup.subtree_control", "cgroup.threads"}
	}
	return strings.Fields(string(list))
}

// unified returns the hierarchy of version 2, if there is one.
func (g *Group) unified() []*hierarchy {
	if g.h.unified == nil {
		return nil
	}
	return []*hierarchy{g.h.unified}
}

// Delegated returns the group that Delegate made below g, or nil.
func (g *Group) Delegated() *Group {
	below := &Group{h: g.h, path: join(g.path, payload), delegated: true, elsewhere: g.elsewhere}
	if !g.h.all()[0].exists(below.path) {
		return nil
	}
	return below
}

// Joined returns the group that a further process of a delegated group is to be
// in, beside pid, which is one of them. It is the delegated group itself, but
// on version 2 that of pid: where groups below have controllers there can be no
// processes.
//
// Source: Documentation/admin-guide/cgroup-v2.rst, "No Internal Process Constraint".
func (g *Group) Joined(pid int) *Group {
	if g.h.Version() != V2 {
		return g
	}
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return g
	}
	for line := range strings.Lines(string(raw)) {
		p, ok := strings.CutPrefix(strings.TrimSpace(line), "0::/")
		// Where this process's own namespace is not that of the mount, it is a
		// path that the mount does not have.
		if ok && strings.HasPrefix(p, g.path+"/") && g.h.unified.exists(p) {
			return &Group{h: g.h, path: p, delegated: true}
		}
	}
	return g
}

// Others returns the mount points of the hierarchies that only delegated groups
// see, by the last part of their path: those without controllers, and the
// unified one beside version 1.
func (h *Host) Others() map[string]string {
	out := map[string]string{}
	for _, m := range slices.Concat(h.v1, h.named) {
		if len(m.controllers) == 0 {
			out[path.Base(m.mount)] = m.mount
		}
	}
	if h.Version() == Hybrid {
		out[path.Base(h.unified.mount)] = h.unified.mount
	}
	return out
}

// withTasks returns the hierarchies that a process enters by writing to tasks.
func (g *Group) withTasks() []*hierarchy {
	if g.delegated {
		return slices.Concat(g.h.v1, g.h.named)
	}
	return g.h.v1
}
