package runtime

import (
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/linux/resctrl"
	"lade/internal/linux/selinux"
)

// checkLinux refuses what the kernel does not have, and what would change the
// host instead of the container. has are the namespaces of the spec.
func checkLinux(l *specs.Linux, has map[specs.LinuxNamespaceType]bool) error {
	if l.IntelRdt != nil {
		if err := checkRdt(l.IntelRdt); err != nil {
			return err
		}
	}
	if l.MountLabel != "" {
		if !selinux.Enabled() {
			return errdefs.Invalidf("selinux label is specified in config, but selinux is disabled or not supported")
		}
	}
	for key := range l.Sysctl {
		if err := checkSysctl(key, has); err != nil {
			return err
		}
	}
	return nil
}

func checkRdt(r *specs.LinuxIntelRdt) error {
	if err := resctrl.Check(r); err != nil {
		return err
	}
	_, err := resctrl.At(resctrl.Dir)
	return err
}

// checkSysctl allows the settings that belong to one of the container's own
// namespaces: Documentation/admin-guide/sysctl.
func checkSysctl(key string, has map[specs.LinuxNamespaceType]bool) error {
	name := strings.ReplaceAll(key, "/", ".")
	switch name {
	case "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
		"kernel.shm_rmid_forced", "kernel.msg_next_id", "kernel.sem_next_id", "kernel.shm_next_id":
		return needNamespace(key, specs.IPCNamespace, has)
	case "kernel.domainname", "kernel.hostname":
		return needNamespace(key, specs.UTSNamespace, has)
	case "kernel.ns_last_pid":
		return needNamespace(key, specs.PIDNamespace, has)
	}
	switch {
	case strings.HasPrefix(name, "fs.mqueue."):
		return needNamespace(key, specs.IPCNamespace, has)
	case strings.HasPrefix(name, "net."):
		return needNamespace(key, specs.NetworkNamespace, has)
	case strings.HasPrefix(name, "user."):
		return needNamespace(key, specs.UserNamespace, has)
	}
	return errdefs.Invalidf("sysctl %q is not in a separate kernel namespace", key)
}

func needNamespace(key string, kind specs.LinuxNamespaceType, has map[specs.LinuxNamespaceType]bool) error {
	if has[kind] {
		return nil
	}
	return errdefs.Invalidf("sysctl %q is not allowed without a private %s namespace", key, kind)
}
