package spec

import (
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
)

// nestingCaps are what an engine needs beside the default ones. They count in
// the container's user namespace and in the namespaces that belong to it.
func nestingCaps() []string {
	return []string{"CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE"}
}

// ApplyNesting fills in what --security-opt nesting=true stands for, so that
// inspect shows it: a container in which an engine can run containers, without
// any right outside of its user namespace.
//
//   - a user namespace with ids of its own, unless another kind is asked for;
//   - the capabilities to mount, to make namespaces and to configure networks;
//     the seccomp profile opens what they need;
//   - a procfs and a sysfs with nothing over them: the kernel lets a user namespace
//     mount others only then (mount_too_revealing in fs/namespace.c);
//   - control groups of its own, below its limits.
//
// What the request says itself stands. Errors: Invalid for what contradicts it.
func ApplyNesting(hc *container.HostConfig) error {
	sec, err := parseSecurity(hc, SecurityDefaults{})
	if err != nil || !sec.nesting {
		return err
	}
	switch {
	case hc.Privileged:
		return errdefs.Invalidf("conflicting options: nesting and the privileged mode")
	case hc.UsernsMode.IsHost():
		return errdefs.Invalidf("conflicting options: nesting and the host's user namespace")
	case hc.UsernsMode == "":
		hc.UsernsMode = "auto"
	}
	if sec.writableCgroups == nil {
		hc.SecurityOpt = append(slices.Clone(hc.SecurityOpt), "writable-cgroups=true")
	}
	if hc.MaskedPaths == nil {
		hc.MaskedPaths = []string{}
	}
	if hc.ReadonlyPaths == nil {
		hc.ReadonlyPaths = []string{}
	}
	for _, c := range nestingCaps() {
		short := c[len("CAP_"):]
		if !slices.ContainsFunc(slices.Concat(hc.CapAdd, hc.CapDrop), func(o string) bool { return o == c || o == short || o == "ALL" }) {
			hc.CapAdd = append(slices.Clip(hc.CapAdd), c)
		}
	}
	return nil
}

// nestingOption reads the value of the option.
func nestingOption(opt, value string) (bool, error) {
	yes, err := strconv.ParseBool(value)
	if err != nil {
		return false, errdefs.Invalidf("invalid --security-opt 2: %q", opt)
	}
	return yes, nil
}

// openForNesting allows what Docker's profile forbids even with CAP_SYS_ADMIN
// and runc needs: to change the root of a mount namespace, and to make a
// session keyring for each container (keys belong to user namespaces, Linux 5.3).
func openForNesting(profile *specs.LinuxSeccomp) *specs.LinuxSeccomp {
	out := *profile
	out.Syscalls = append(slices.Clip(out.Syscalls), specs.LinuxSyscall{Names: []string{"keyctl", "pivot_root"}, Action: specs.ActAllow})
	return &out
}
