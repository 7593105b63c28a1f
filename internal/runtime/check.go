package runtime

import (
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/linux/mount"
	"lade/internal/linux/ns"
)

// checkNames refuses names that the host would get: they belong to the UTS
// namespace.
func checkNames(s *specs.Spec, separate bool) error {
	switch {
	case s.Hostname != "" && !separate:
		return errdefs.Invalidf("unable to set hostname without a private UTS namespace")
	case s.Domainname != "" && !separate:
		return errdefs.Invalidf("unable to set domainname without a private UTS namespace")
	}
	for key := range s.Linux.Sysctl {
		if s.Hostname != "" && strings.ReplaceAll(key, "/", ".") == "kernel.hostname" {
			return errdefs.Invalidf("sysctl %q is not allowed as it conflicts with the OCI 'hostname' field", key)
		}
	}
	return nil
}

// checkRlimits: config.md, "POSIX process".
func checkRlimits(list []specs.POSIXRlimit) error {
	for i, r := range list {
		if rlimit(r.Type) < 0 {
			return errdefs.Invalidf("invalid rlimit type %s", r.Type)
		}
		if slices.ContainsFunc(list[:i], func(o specs.POSIXRlimit) bool { return o.Type == r.Type }) {
			return errdefs.Invalidf("duplicate rlimit %s", r.Type)
		}
	}
	return nil
}

// checkValues refuses words that have no meaning: config-linux.md, "Devices",
// "Rootfs Mount Propagation", "Personality".
func checkValues(l *specs.Linux) error {
	for _, d := range l.Devices {
		switch d.Type {
		case "c", "b", "u", "p":
		default:
			return errdefs.Invalidf("invalid device type %q", d.Type)
		}
		if d.Path == "" {
			return errdefs.Invalidf("a device needs a path")
		}
	}
	if p := l.RootfsPropagation; p != "" && mount.Propagation(p) == 0 {
		return errdefs.Invalidf("rootfsPropagation=%s is not supported", p)
	}
	if p := l.Personality; p != nil {
		if _, ok := personality(p.Domain); !ok {
			return errdefs.Invalidf("invalid personality domain %s", p.Domain)
		}
		if len(p.Flags) > 0 {
			return errdefs.Invalidf("personality flags are not supported: %v", p.Flags)
		}
	}
	return nil
}

// personality returns the number of an execution domain: personality(2).
func personality(d specs.LinuxPersonalityDomain) (n uint64, ok bool) {
	switch d {
	case specs.PerLinux:
		return 0, true
	case specs.PerLinux32:
		return 0x0008, true // PER_LINUX32
	}
	return 0, false
}

// separate returns which kinds of namespaces a container has other than the
// caller: new ones, and those by path that are not the caller's own.
func separate(list []specs.LinuxNamespace) map[specs.LinuxNamespaceType]bool {
	has := make(map[specs.LinuxNamespaceType]bool, len(list))
	for _, n := range list {
		has[n.Type] = n.Path == "" || !ours(n)
	}
	return has
}

// ours reports whether a namespace by path is the caller's. One that cannot be
// looked at is for the start to refuse.
func ours(n specs.LinuxNamespace) bool {
	there, err := ns.At(n.Path)
	if err != nil {
		return false
	}
	here, err := ns.Of(0, ns.Flag(string(n.Type)))
	return err == nil && there == here
}
