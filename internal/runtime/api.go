package runtime

import (
	"context"
	"log/slog"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/linux/cgroup"
	"lade/internal/linux/idmap"
)

// Options configure a Launcher.
type Options struct {
	// Threads is how many programs may run at the same time; 0 means 4.
	Threads int
	// Logger receives what is worth knowing but no failure; nil: discarded.
	Logger *slog.Logger
	// InitPath is the host path of lade-init; needed only for containers that
	// ask for Init.
	InitPath string
	// Once says that one container or two are started and not many: nothing is
	// prepared that would save time only from the second on.
	Once bool
	// Ahead is the specification of the one container that will be started or
	// created, with Once: namespaces that it asks for are made from now on, while
	// the caller goes on. nil: they are made when it is started.
	Ahead *specs.Spec
	// Beside is called once the namespaces are made ahead, by their thread: work
	// of the caller's for which Container.Late waits. nil: none. Close waits for
	// it.
	Beside func()
}

// Rootfs says where a container's root comes from: an overlay to mount
// (Lower not empty, top layer first) or the directory Path.
type Rootfs struct {
	Lower       []string
	Upper, Work string
	// Volatile mounts the overlay without any sync of the upper layer.
	Volatile bool
	// Context is the SELinux context of the overlay's files; empty: their own.
	// Those of Path are the caller's to label.
	Context string
	Path    string
	// Translate says that the files of Path are stored with the ids that a
	// container with a user namespace has inside, as those of an overlay always
	// are; otherwise with those of the host.
	Translate bool
}

// Container is what Start needs to know. Spec.Linux.NetDevices are the caller's
// to move, while the process is prepared or parked (Create).
type Container struct {
	ID   string
	Spec *specs.Spec
	// Filter is the seccomp program as an array of sock_filter; nil: none.
	// Spec.Linux.Seccomp is not looked at.
	Filter []byte
	// FilterFlags are those of seccomp(SECCOMP_SET_MODE_FILTER).
	FilterFlags uint
	// Late completes Filter when all else of the start is ready: what takes long
	// to make can be made until then (Options.Beside). nil: it is complete.
	Late func(*Container) error
	// Listener is told of the calls that the filter hands over; nil: it hands
	// none over.
	Listener *Listener
	Rootfs   Rootfs
	// User is "user[:group]" by name or number, resolved in the container's own
	// /etc/passwd and /etc/group. Empty, it means Spec.Process.User, or, when
	// that says nothing but 0, root with its supplementary groups.
	User string
	// GroupAdd are additional groups, by name or number.
	GroupAdd []string
	// SpecUser takes Spec.Process.User exactly as it is: nothing is looked up.
	SpecUser bool
	// NetNS is a network namespace to join, or -1: what the spec says. It stays
	// the caller's.
	NetNS int
	// UserNS is the user namespace to live in, with the map of Spec.Linux, or 0:
	// what the spec says. It stays the caller's.
	UserNS int
	// Next are the ids of the container that will probably be started next; its user
	// namespace is made by Restock. Empty: nothing is known of them.
	Next idmap.Map
	// Stdin, Stdout and Stderr become descriptors 0, 1 and 2; -1 means /dev/null.
	// They stay the caller's and are ignored with Spec.Process.Terminal.
	Stdin, Stdout, Stderr int
	// Delegate lets the container's processes make control groups themselves,
	// below their own, where the spec mounts them writable: cgroup.Group.Delegate.
	Delegate bool
	// Preserve hands the descriptors 3 … 3+Preserve-1 of the caller on; they must
	// be open and stay so over execve(2).
	Preserve int
	// KeepKeyring leaves the process in the caller's session keyring.
	KeepKeyring bool
	// Ordered lists the spec's mounts in /proc/self/mountinfo as the spec has them,
	// as far as the kernel lets it; see builder.number.
	Ordered bool
	// Prepared is called by Create when all is mounted and the host's files can
	// still be seen from the container's mount namespace, the root at its own
	// path among them: the moment of the hooks prestart, createRuntime and
	// createContainer. Its error ends the creation. It needs Rootfs.Path.
	Prepared func(*Process) error
	// Init runs lade-init as process 1, at /sbin/docker-init, and the
	// container's command as its child.
	Init bool
}

// Process is a started process. Its descriptors are the caller's to close.
type Process struct {
	Pid     int
	Pidfd   int
	Console int // the terminal's master side, or -1
	Cgroup  *cgroup.Group
	// Root is a descriptor of the root mount, which the caller closes, if that may
	// take long: see keepRoot. 0: none.
	Root int
	// Adopted says that the process is not the caller's child: how it ends is told
	// by its pidfd.
	Adopted bool
	// StartedAt is when execve succeeded.
	StartedAt time.Time
	// Prepare is the time before clone3, Program that from clone3 to execve.
	Prepare, Program time.Duration
}

// Exec is an additional process for a running container.
type Exec struct {
	Pid    int // of a process of the container
	Pidfd  int // the same process
	Cgroup *cgroup.Group
	// Process is the process's part of the spec.
	Process               *specs.Process
	Filter                []byte
	FilterFlags           uint
	Listener              *Listener
	User                  string
	GroupAdd              []string
	SpecUser              bool
	Stdin, Stdout, Stderr int
	// Tasks are files in which the process writes "0" before it executes, such as
	// resctrl.FS.Tasks opens. They stay the caller's.
	Tasks []int
	// Personality and MemoryPolicy are the container's.
	Personality  *specs.LinuxPersonality
	MemoryPolicy *specs.LinuxMemoryPolicy
	// Traced says that a process of the container may have CAP_SYS_PTRACE.
	Traced bool
	// Preserve: as in Container.
	Preserve int
	// Path is executed instead of Process.Args[0], with the environment as it is
	// and with every privilege that the caller has: a hook of the container.
	Path string
	// OwnRoot says that the container's root is not that of its mount namespace.
	OwnRoot bool
}

// StartError is a failed start whose reason is the request: the command, the
// user, a mount. Error gives it in runc's words.
type StartError struct {
	// Code is the exit code that the failure stands for: 127 the command, or
	// its working directory, was not found, 126 it could not be executed or
	// entered, 128 the start failed otherwise;
	// 0: not the command's fault.
	Code  int
	Op    string // what was tried, in the words of the message
	Path  string // on what
	Errno syscall.Errno
}

var _ interface {
	Start(context.Context, *Container) (*Process, error)
	Exec(context.Context, *Exec) (*Process, error)
	Close() error
} = (*Launcher)(nil)
