package main

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/linux/selinux"
)

// appArmor is where the kernel shows that it has that module, switched on.
const appArmor = "/sys/kernel/security/apparmor/profiles"

// labels takes out of a process what only a security module could do that this
// kernel does not have, and says so in the log. The module is the host's choice:
// without it nothing on the host is confined by it, this container included.
// crun goes on, too; runc refuses.
func (a *app) labels(p *specs.Process) {
	if p == nil {
		return
	}
	a.drop(&p.ApparmorProfile, "process.apparmorProfile", func() bool { return exists(appArmor) })
	a.drop(&p.SelinuxLabel, "process.selinuxLabel", selinux.Enabled)
}

// mountLabel is the same for what is mounted for a container.
func (a *app) mountLabel(l *specs.Linux) { a.drop(&l.MountLabel, "linux.mountLabel", selinux.Enabled) }

func (a *app) drop(label *string, what string, enabled func() bool) {
	if *label != "" && !enabled() {
		a.log.Warn("the kernel has no such security module, or does not show it; the label has no effect", what, *label)
		*label = ""
	}
}
