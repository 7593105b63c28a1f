package main

import (
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Where the kernel shows that it has the security module, switched on.
const (
	appArmor = "/sys/kernel/security/apparmor/profiles"
	seLinux  = "/sys/fs/selinux/enforce"
)

// labels takes out of a process what only a security module could do that this
// kernel does not have, and says so in the log. The module is the host's choice:
// without it nothing on the host is confined by it, this container included.
// crun goes on, too; runc refuses.
func (a *app) labels(p *specs.Process) {
	if p == nil {
		return
	}
	a.drop(&p.ApparmorProfile, "process.apparmorProfile", appArmor)
	a.drop(&p.SelinuxLabel, "process.selinuxLabel", seLinux)
}

func (a *app) drop(label *string, what, module string) {
	if *label == "" {
		return
	}
	if _, err := os.Stat(module); err != nil {
		a.log.Warn("the kernel has no such security module, or does not show it; the label has no effect", what, *label, "error", err)
		*label = ""
	}
}
