package cgroup

import (
	"context"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
)

// Version is the layout of the host's control groups.
type Version int

// The layouts. V1 also stands for a host whose unified hierarchy is not
// mounted.
const (
	V1     Version = 1
	V2     Version = 2
	Hybrid Version = 3 // controllers in v1, and a unified hierarchy beside them
)

// Host is the set of mounted hierarchies.
type Host struct{}

// Detect reads which hierarchies are mounted in the caller's mount namespace.
// The Host keeps a descriptor for each of them, for as long as the program
// runs. Errors: Unavailable if there is none.
func Detect() (*Host, error) { return nil, errdefs.NotImplementedf("cgroup detect") }

// Version tells the layout.
func (h *Host) Version() Version { return V1 }

// Controllers returns the names of the controllers that groups can use, sorted.
func (h *Host) Controllers() []string { return nil }

// Group is one control group: the same path in every hierarchy.
type Group struct{}

// Create makes the group at path, with its parents, in every hierarchy and
// writes the limits of r, which may be nil. When it fails, it removes what it
// made. An empty group of the same path, a leftover, is replaced. Errors:
// Conflict if the group exists and has processes; Invalid if the kernel
// refuses a value or the host lacks what a limit needs.
func (h *Host) Create(path string, r *specs.LinuxResources) (*Group, error) {
	return nil, errdefs.NotImplementedf("cgroup create")
}

// Open returns the group at path. Errors: NotFound.
func (h *Host) Open(path string) (*Group, error) { return nil, errdefs.NotImplementedf("cgroup open") }

// Path returns the group's path below the hierarchies' mount points.
func (g *Group) Path() string { return "" }

// AttachFDs returns what a new process needs to be born in the group: for each
// v1 hierarchy the descriptor of tasks, in which the child writes "0" while it
// has one thread only, and the directory of the unified hierarchy for
// CLONE_INTO_CGROUP (-1: there is none). All are close-on-exec; the caller
// closes them. Errors: NotFound.
func (g *Group) AttachFDs() (tasks []int, into int, err error) {
	return nil, -1, errdefs.NotImplementedf("cgroup attach")
}

// Add moves a process, with all its threads, into the group. It costs about
// 10 ms per v1 hierarchy; see AttachFDs.
func (g *Group) Add(pid int) error { return errdefs.NotImplementedf("cgroup add") }

// Update changes the limits that r names and leaves the others. Errors: as
// Create.
func (g *Group) Update(r *specs.LinuxResources) error {
	return errdefs.NotImplementedf("cgroup update")
}

// Freeze stops every process in the group and waits until the kernel says so,
// or ctx ends (the group is then thawed). It is idempotent. Errors: NotFound.
func (g *Group) Freeze(ctx context.Context) error { return errdefs.NotImplementedf("cgroup freeze") }

// Thaw lets the group's processes go on and waits until the kernel says so, or
// ctx ends. It is idempotent. Errors: NotFound.
func (g *Group) Thaw(ctx context.Context) error { return errdefs.NotImplementedf("cgroup thaw") }

// Kill sends SIGKILL to every process of the group and of the groups below it,
// frozen or not, and waits until none is left or ctx ends. A group that is gone
// has no processes: that is no error.
func (g *Group) Kill(ctx context.Context) error { return errdefs.NotImplementedf("cgroup kill") }

// Pids returns the processes of the group and of the groups below it. Errors:
// NotFound.
func (g *Group) Pids() ([]int, error) { return nil, errdefs.NotImplementedf("cgroup pids") }

// OOMNotify returns a descriptor that becomes readable when the group runs out
// of memory or, on v1, is removed: an eventfd (v1) or an inotify descriptor
// (v2). Read it empty, then ask OOMKills. The caller closes it. Errors:
// NotFound; Unavailable if the host has no memory controller.
func (g *Group) OOMNotify() (fd int, err error) {
	return -1, errdefs.NotImplementedf("cgroup oom notify")
}

// OOMKills returns how many processes of the group and of the groups below it
// the kernel killed for memory.
func (g *Group) OOMKills() (uint64, error) { return 0, errdefs.NotImplementedf("cgroup oom kills") }

// Delete removes the group and the groups below it, and waits for processes
// that are on their way out until ctx ends. A group that is gone is no error.
// Errors: Conflict if processes are still in it when ctx ends.
func (g *Group) Delete(ctx context.Context) error { return errdefs.NotImplementedf("cgroup delete") }
