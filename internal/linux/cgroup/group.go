package cgroup

import (
	"errors"
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// Group is one control group: the same path in every hierarchy.
type Group struct {
	h         *Host
	path      string                // relative, never empty: "docker/<id>"
	delegated bool                  // it is in the hierarchies without controllers too
	elsewhere map[*hierarchy]string // see In
	// Taken says that it is the group of a Scope: the service manager has made
	// it, and removes it.
	Taken bool
}

// clean checks a group's path. The root itself is refused: nothing here may
// kill or remove it.
func clean(p string) (string, error) {
	if s, ok := ParseScope(p); ok {
		var err error
		if p, err = s.Path(); err != nil {
			return "", err
		}
	}
	rel := strings.TrimPrefix(path.Clean("/"+p), "/")
	if rel == "" || slices.Contains(strings.Split(p, "/"), "..") || strings.ContainsAny(p, "\x00\n") {
		return "", errdefs.Invalidf("invalid control group path %q", p)
	}
	return rel, nil
}

// Create makes the group at path, with its parents, in every hierarchy and
// writes the limits of r, which may be nil. When it fails, it removes what it
// made, parents excepted. An empty group of the same path, a leftover, is
// replaced; that of a Scope is taken as it is. Errors: Conflict if the group
// exists and has processes; Invalid if the kernel refuses a value or the host
// lacks what a limit needs.
func (h *Host) Create(path string, r *specs.LinuxResources) (_ *Group, err error) {
	rel, err := clean(path)
	if err != nil {
		return nil, err
	}
	g := &Group{h: h, path: rel, Taken: isScope(path)}
	p, err := h.plan(r)
	if err != nil {
		return nil, err
	}
	var made []*hierarchy
	defer func() {
		if err != nil && !g.Taken {
			for _, m := range slices.Backward(made) {
				err = errors.Join(err, m.removeTree(rel))
			}
		}
	}()
	for _, m := range h.all() {
		if err = h.make(m, rel, p, g.Taken); err != nil {
			return nil, err
		}
		made = append(made, m)
	}
	if err = h.reserve(rel, r); err != nil {
		return nil, err
	}
	if err = g.apply(p, true); err != nil {
		return nil, err
	}
	return g, nil
}

// make makes one directory, its parents where they are missing, and fills what
// the kernel wants filled before a process can enter. One that exists is
// replaced, or with take left.
func (h *Host) make(m *hierarchy, rel string, p *plan, take bool) error {
	if m.v2 {
		if err := h.enable(m, path.Dir(rel), p); err != nil {
			return err
		}
	}
	err := m.mkdir(rel)
	if errors.Is(err, unix.ENOENT) {
		if err = h.makeParents(m, path.Dir(rel)); err != nil {
			return err
		}
		if m.v2 {
			if err := h.enable(m, path.Dir(rel), p); err != nil {
				return err
			}
		}
		err = m.mkdir(rel)
	}
	if errors.Is(err, unix.EEXIST) && take {
		err = nil
	}
	if errors.Is(err, unix.EEXIST) {
		if err = m.removeTree(rel); err == nil {
			err = m.mkdir(rel)
		}
		if errors.Is(err, unix.EBUSY) {
			return errdefs.Conflictf("the control group /%s exists and has processes: %w", rel, err)
		}
	}
	if err == nil && slices.Contains(m.controllers, "cpuset") && !m.v2 {
		err = m.inheritCpuset(rel)
	}
	return err
}

func (h *Host) makeParents(m *hierarchy, rel string) error {
	cpuset := slices.Contains(m.controllers, "cpuset") && !m.v2
	for i := range len(rel) + 1 {
		if i < len(rel) && rel[i] != '/' {
			continue
		}
		if err := m.mkdir(rel[:i]); errors.Is(err, unix.EEXIST) {
			continue
		} else if err != nil {
			return err
		}
		if !cpuset {
			continue
		}
		if err := m.inheritCpuset(rel[:i]); err != nil {
			return err
		}
		// From now on the kernel copies cpus and mems to what is made below.
		if err := m.write(rel[:i], "cgroup.clone_children", "1"); err != nil {
			return err
		}
	}
	return nil
}

// inheritCpuset gives a v1 cpuset group its parent's mems and cpus unless it
// has cpus: a group without them takes no process (ENOSPC). As cpus are written
// last, a group that has them has mems too.
//
// Source: Documentation/admin-guide/cgroup-v1/cpusets.rst.
func (m *hierarchy) inheritCpuset(rel string) error {
	own, err := m.read(rel, "cpuset.cpus")
	if err != nil || strings.TrimSpace(own) != "" {
		return err
	}
	parent := path.Dir(rel)
	if parent == "." {
		parent = ""
	} else if err := m.inheritCpuset(parent); err != nil {
		return err
	}
	for _, file := range []string{"cpuset.mems", "cpuset.cpus"} {
		from, err := m.read(parent, file)
		if err != nil {
			return err
		}
		if err := m.write(rel, file, strings.TrimSpace(from)); err != nil {
			return err
		}
	}
	return nil
}

// enable makes controllers available to the groups below parent: on a v2 host
// all that there are (statistics need them too), on a hybrid one those that p
// has a limit of. A controller that cannot be enabled, because a parent has
// processes of its own, is an error only when its limit is written.
//
// Source: Documentation/admin-guide/cgroup-v2.rst, "Enabling and Disabling".
func (h *Host) enable(m *hierarchy, parent string, p *plan) error {
	want := m.controllers
	if len(h.v1) > 0 {
		want = p.unified
	}
	if len(want) == 0 {
		return nil
	}
	if parent == "." {
		parent = ""
	}
	have, err := m.read(parent, "cgroup.subtree_control")
	if isGone(err) {
		return nil // made by the caller, which comes back
	}
	if err != nil {
		return err
	}
	now := strings.Fields(have)
	var missing []string
	for _, c := range want {
		if !slices.Contains(now, c) {
			missing = append(missing, "+"+c)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if parent != "" {
		if err := h.enable(m, path.Dir(parent), p); err != nil {
			return err
		}
		// The root alone may have processes beside groups with controllers.
		if inside, err := m.read(parent, "cgroup.procs"); inside != "" || errors.Is(err, unix.EOPNOTSUPP) {
			return nil
		}
	}
	if m.write(parent, "cgroup.subtree_control", strings.Join(missing, " ")) == nil {
		return nil
	}
	for _, c := range missing { // one that is refused must not hold back the others
		_ = m.write(parent, "cgroup.subtree_control", c)
	}
	return nil
}

// Open returns the group at path. It is there as long as any hierarchy has it,
// a named one too: a removal that was cut short, another runtime's or ours, may
// have left it in that one alone. Errors: NotFound.
func (h *Host) Open(path string) (*Group, error) {
	rel, err := clean(path)
	if err != nil {
		return nil, err
	}
	g := &Group{h: h, path: rel, Taken: isScope(path)}
	for _, m := range slices.Concat(h.all(), h.named) {
		if m.exists(rel) {
			return g, nil
		}
	}
	return nil, g.gone(unix.ENOENT)
}

// Path returns the group's path below the hierarchies' mount points.
func (g *Group) Path() string { return "/" + g.path }

func (g *Group) gone(err error) error {
	return errdefs.NotFoundf("the control group /%s does not exist: %w", g.path, err)
}

// missing classifies an error of a group's file: NotFound if it means that the
// group is gone.
func (g *Group) missing(m *hierarchy, err error) error {
	if isGone(err) && !m.exists(g.path) {
		return g.gone(err)
	}
	return err
}

// AttachFDs returns what a new process needs to be born in the group: for each
// v1 hierarchy the descriptor of tasks, in which the child writes "0" while it
// has one thread only, and the directory of the unified hierarchy for
// CLONE_INTO_CGROUP (-1: there is none). All are close-on-exec; the caller
// closes them. Errors: NotFound.
//
// A child that is born into a frozen group stands still before its execve(2), and
// its parent in vfork(2). os/exec waits there on a thread that the Go runtime takes
// for a running one: a garbage collection would wait for it, and all goroutines
// for that, also the one that is about to thaw the group. So os/exec must not use
// this where somebody in the same process freezes the group, as Kill does before
// Linux 5.14; program.Run may, which tells the runtime that it waits.
func (g *Group) AttachFDs() (tasks []int, into int, err error) {
	in := g.withTasks()
	tasks = make([]int, 0, len(in))
	for _, m := range in {
		fd, err := m.open(g.place(m), "tasks", unix.O_WRONLY)
		if err != nil {
			closeAll(tasks)
			return nil, -1, g.missing(m, err)
		}
		tasks = append(tasks, fd)
	}
	if g.h.unified == nil {
		return tasks, -1, nil
	}
	if into, err = g.h.unified.open(g.path, "", unix.O_PATH|unix.O_DIRECTORY); err != nil {
		closeAll(tasks)
		return nil, -1, g.missing(g.h.unified, err)
	}
	return tasks, into, nil
}

// Add moves a process, with all its threads, into the group. It costs about
// 10 ms per v1 hierarchy; see AttachFDs. Errors: NotFound if the group or the
// process is gone.
func (g *Group) Add(pid int) error {
	for _, m := range g.h.all() {
		err := m.write(g.path, "cgroup.procs", strconv.Itoa(pid))
		if errors.Is(err, unix.ESRCH) {
			return errdefs.NotFoundf("process %d does not exist: %w", pid, err)
		}
		if err != nil {
			return g.missing(m, err)
		}
	}
	return nil
}

// Update changes the limits that r names and leaves the others. It goes on
// until the first one that the kernel refuses. Errors: as Create; NotFound if
// the group is gone.
func (g *Group) Update(r *specs.LinuxResources) error {
	p, err := g.h.plan(r)
	if err != nil {
		return err
	}
	if g.h.unified != nil && len(p.unified) > 0 {
		if err := g.h.enable(g.h.unified, path.Dir(g.path), p); err != nil {
			return err
		}
	}
	if err := g.h.reserve(g.path, r); err != nil {
		return err
	}
	return g.apply(p, false)
}

// Pids returns the processes of the group and of the groups below it. Errors:
// NotFound.
func (g *Group) Pids() ([]int, error) {
	m := g.listed()
	pids, err := m.pids(g.path, nil)
	if err != nil {
		return nil, g.missing(m, err)
	}
	return pids, nil
}

// listed is the hierarchy that knows all processes of the group.
func (g *Group) listed() *hierarchy {
	if g.hasUnified() || len(g.h.v1) == 0 {
		return g.h.unified
	}
	if f, ok := g.h.v1At("freezer"); ok {
		return f
	}
	return g.h.v1[0]
}

func (m *hierarchy) pids(group string, pids []int) ([]int, error) {
	content, err := m.read(group, "cgroup.procs")
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) { // a threaded group: its domain lists it
		return nil, err
	}
	for line := range strings.FieldsSeq(content) {
		// A process of another pid namespace reads as 0.
		if pid, err := strconv.Atoi(line); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	for _, name := range m.children(group) {
		below, err := m.pids(join(group, name), pids)
		if isGone(err) {
			continue // removed while we looked
		}
		if err != nil {
			return nil, err
		}
		pids = below
	}
	return pids, nil
}
