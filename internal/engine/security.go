package engine

import (
	"cmp"

	"github.com/moby/moby/api/types/system"
)

// builtinProfile is the name of the seccomp profile that the engine brings.
const builtinProfile = "builtin"

// securityInfo tells what of the kernel protects containers, in Docker's order.
func (e *Engine) securityInfo(i *system.Info) {
	add := func(have bool, option string) {
		if have {
			i.SecurityOptions = append(i.SecurityOptions, "name="+option)
		}
	}
	d := e.settings().Defaults.Security
	profile := cmp.Or(d.SeccompName, builtinProfile)
	add(e.Facts.AppArmor, "apparmor")
	add(e.Facts.Seccomp, "seccomp,profile="+profile)
	add(e.Facts.Labels, "selinux")
	add(!e.ranges.remap.Empty(), "userns")
	add(true, "cgroupns")
	add(d.NoNewPrivileges, "no-new-privileges")
	if e.Facts.Seccomp && profile != builtinProfile {
		i.Warnings = append(i.Warnings, "WARNING: daemon is not using the default seccomp profile")
	}
}
