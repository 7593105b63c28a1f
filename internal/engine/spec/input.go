package spec

import (
	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/cdi"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/idmap"
	"lade/internal/linux/seccomp/profile"
	"lade/internal/linux/selinux"
)

// Facts are what the specification depends on of the host.
type Facts struct {
	CgroupVersion int      // 1 (also hybrid) or 2
	CPUs          int      // online
	Capabilities  []string // that the engine has in its bounding set, as CAP_X: nobody gets more
	Kernel        string   // release, as uname -r
	Seccomp       bool
	Profiles      *profile.Defaults // nil: each profile is made anew
	AppArmor      bool
	SELinux       bool            // with a policy
	Labels        bool            // new containers get labels of SELinux
	Swap          bool            // swap accounting
	Controllers   map[string]bool // by v1 name: "blkio" also stands for v2's io
	Unified       map[string]bool // controllers of the unified hierarchy, by their names there; nil: there is none
	Systemd       bool            // control groups are units of systemd

	Limits         cgroup.Features
	CPUSet, MemSet string // CPUs and memory nodes that a cpuset may have: "0-3"; empty: not known
	// RecursiveReadOnly says that a read-only bind can include what is mounted
	// below it (mount_setattr(2), Linux 5.12).
	RecursiveReadOnly bool
	// Sysctls are those of the network namespace that containers get unless they
	// say otherwise, as far as this kernel has them.
	Sysctls map[string]string
	// Masked are paths of this machine to mask besides the usual ones.
	Masked []string
}

// Mount is a bind, a volume or a tmpfs of the container, resolved.
type Mount struct {
	Type        string // "bind" or "tmpfs"
	Source      string // host path; empty for a tmpfs
	Destination string
	ReadOnly    bool
	Propagation string   // rprivate, …; "" for a tmpfs
	Options     []string // more: tmpfs data ("size=…"), "rro", "bind" for a non-recursive bind, "idmap", "ridmap=…"
	// IDMap says that the files are stored with the ids of inside, if the
	// container has a user namespace.
	IDMap bool
}

// Files are the host paths of what is bound on /etc; empty ones are not.
type Files struct {
	Hosts, Hostname, Resolv string
}

// Namespaces are what the container shares. Empty: its own; "host": none; else
// the path of the namespace to join.
type Namespaces struct {
	Net, IPC, PID, UTS, Cgroup string
}

// SecurityDefaults are what the daemon's configuration says for containers
// that do not say otherwise.
type SecurityDefaults struct {
	NoNewPrivileges bool
	// Seccomp is "" for the built-in profile, "unconfined", or the profile's JSON.
	Seccomp string
	// AppArmor is the profile of containers that name none and are not
	// privileged; empty: none.
	AppArmor string
	// SELinux are the contexts that the policy has for containers; nil: they get no
	// labels.
	SELinux *selinux.Defaults
	// SeccompName is how info names it: "builtin", "unconfined" or the file's path.
	SeccompName string
}

// Input is all that a specification is made of.
type Input struct {
	ID         string
	Config     *container.Config // merged with the image's
	Host       *container.HostConfig
	Path       string
	Args       []string
	Mounts     []Mount
	Files      Files
	Namespaces Namespaces
	// Shm is the host path that is bound on /dev/shm: with an IPC namespace that
	// is shared, what its owner has there. Empty: the host's own if the IPC
	// namespace is the host's, else a new tmpfs of HostConfig.ShmSize bytes.
	Shm string
	// User is the map of the container's user namespace; empty: the host's.
	User idmap.Map
	// UserNS is the path of the user namespace to join, which has that map;
	// empty: a new one.
	UserNS     string
	Labels     Labels
	CgroupPath string
	Facts      Facts
	Security   SecurityDefaults
	// Devices returns the devices of a host path: one, or those below a
	// directory; with "/dev" all of the host's (--privileged).
	Devices func(path string) ([]specs.LinuxDevice, error)
	// Edits are what Requests returned for HostConfig.DeviceRequests.
	Edits *cdi.Edits
}

// Output is a specification with its seccomp profile apart, because the
// supervisor takes that compiled; nil for an unconfined container.
type Output struct {
	Spec    *specs.Spec
	Seccomp *specs.LinuxSeccomp
}

// ExecInput is what an additional process asks for.
type ExecInput struct {
	Cmd         []string
	Env         []string
	Tty         bool
	WorkingDir  string
	Privileged  bool
	ConsoleSize *[2]uint // height, width
}
