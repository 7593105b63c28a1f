package spec

import (
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/linux/cgroup"
)

// Harmless reports whether the processes of a container can neither change its
// network namespace nor outlive the container, whatever they do. own are the
// sources of binds that are the engine's: nothing of the kernel's is mounted
// below them.
//
// To change a network namespace takes CAP_NET_ADMIN in the user namespace that
// owns it, which is the host's, or, for its parameters, a /proc/sys that can be
// written to and user 0; a proc that shows them cannot be mounted again, not
// even in a user namespace, while parts of it are covered
// (mount_too_revealing in fs/namespace.c). Processes that end with their PID
// namespace cannot stay behind.
func Harmless(s *specs.Spec, own []string) bool {
	defaults := defaultCaps()
	c := s.Process.Capabilities
	for _, set := range [][]string{c.Bounding, c.Effective, c.Permitted, c.Inheritable, c.Ambient} {
		if slices.ContainsFunc(set, func(name string) bool { return !slices.Contains(defaults, name) }) {
			return false
		}
	}
	pid := slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace && n.Path == "" })
	if !pid || s.Hooks != nil || len(s.Linux.MaskedPaths) == 0 || !slices.Contains(s.Linux.ReadonlyPaths, "/proc/sys") {
		return false
	}
	if len(s.Linux.Devices) > 0 || len(s.Linux.Resources.Devices) > 1+len(cgroup.DefaultDevices()) {
		return false
	}
	for name := range s.Linux.Sysctl {
		if strings.HasPrefix(name, "net.") {
			return false
		}
	}
	for _, m := range s.Mounts {
		if m.Type == "bind" && !slices.Contains(own, m.Source) {
			return false
		}
	}
	return true
}
