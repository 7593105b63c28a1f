package spec

import (
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/linux/seccomp/profile"
)

// security is what --security-opt asks for.
type security struct {
	noNewPrivileges bool
	seccomp         string // "", "unconfined", "builtin" or a profile's JSON
	apparmor        string
	labels          []string
	systemPaths     bool // systempaths=unconfined
	writableCgroups *bool
	nesting         bool // see ApplyNesting
}

// parseSecurity reads the options. Errors: Invalid.
func parseSecurity(hc *container.HostConfig, d SecurityDefaults) (*security, error) {
	s := &security{noNewPrivileges: d.NoNewPrivileges}
	for _, opt := range hc.SecurityOpt {
		key, value, ok := strings.Cut(opt, "=")
		if !ok {
			key, value, ok = strings.Cut(opt, ":") // deprecated since Docker 1.11, still taken
		}
		yes := true
		switch {
		case ok && (key == "no-new-privileges" || key == "writable-cgroups"):
			var err error
			if yes, err = strconv.ParseBool(value); err != nil {
				return nil, errdefs.Invalidf("invalid --security-opt 2: %q", opt)
			}
		case ok, opt == "disable", opt == "no-new-privileges", opt == "writable-cgroups":
		default:
			return nil, errdefs.Invalidf("invalid --security-opt 1: %q", opt)
		}
		switch key {
		case "no-new-privileges":
			s.noNewPrivileges = yes
		case "writable-cgroups":
			s.writableCgroups = &yes
		case "nesting":
			var err error
			if s.nesting, err = nestingOption(opt, value); err != nil {
				return nil, err
			}
		case "disable":
			s.labels = append(s.labels, "disable")
		case "label":
			s.labels = append(s.labels, value)
		case "apparmor":
			s.apparmor = value
		case "seccomp":
			s.seccomp = value
		case "systempaths":
			if value != "unconfined" {
				return nil, errdefs.Invalidf("invalid --security-opt 2: %q", opt)
			}
			s.systemPaths = true
		default:
			return nil, errdefs.Invalidf("invalid --security-opt 2: %q", opt)
		}
	}
	return s, nil
}

// labelled reports whether an SELinux label is asked for.
func (s *security) labelled() bool {
	return slices.ContainsFunc(s.labels, func(l string) bool { return l != "disable" })
}

// warnings tells which options this host cannot follow.
func (s *security) warnings(f Facts) (w []string) {
	if s.apparmor != "" && s.apparmor != "unconfined" && !f.AppArmor {
		w = append(w, "Your kernel does not support AppArmor or it is not enabled. AppArmor profile discarded.")
	}
	if !f.Labels && s.labelled() {
		w = append(w, "Your kernel does not support SELinux or it is not enabled. Labels discarded.")
	}
	return w
}

// apparmorProfile names the profile that the process runs under; empty: that
// of the supervisor.
func (s *security) apparmorProfile(in Input) string {
	switch {
	case !in.Facts.AppArmor:
		return ""
	case s.apparmor != "":
		return s.apparmor
	case in.Host.Privileged, s.nesting: // an engine mounts, which the default profile denies
		return "unconfined"
	}
	return in.Security.AppArmor
}

// AppArmorProfile is the profile that inspect shows of a container.
func AppArmorProfile(hc *container.HostConfig, f Facts, d SecurityDefaults) string {
	s, err := parseSecurity(hc, d)
	if err != nil { // refused when the container was created
		return ""
	}
	return s.apparmorProfile(Input{Host: hc, Facts: f, Security: d})
}

// profile returns the seccomp profile for a bounding set; nil: none.
func (s *security) profile(in Input, bounding []string) (*specs.LinuxSeccomp, error) {
	which := s.seccomp
	if which == "" && !in.Host.Privileged {
		which = in.Security.Seccomp
	}
	custom := which != "" && which != "builtin"
	switch {
	case which == "unconfined", in.Host.Privileged && !custom:
		return nil, nil
	case !in.Facts.Seccomp && custom:
		return nil, errdefs.Invalidf("seccomp is not enabled in your kernel, cannot run a custom seccomp profile")
	case !in.Facts.Seccomp:
		return nil, nil
	case custom:
		return profile.Load([]byte(which), bounding)
	}
	profile, err := in.Facts.Profiles.Profile(bounding)
	if err == nil && s.nesting {
		profile = openForNesting(profile)
	}
	return profile, err
}

// MaskedPaths returns the paths that are hidden from a container that does not
// say otherwise, sorted as inspect shows them.
func MaskedPaths(f Facts) []string {
	list := append([]string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
		"/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}, f.Masked...)
	slices.Sort(list)
	return list
}

// ReadonlyPaths returns the paths that a container that does not say otherwise
// cannot write to, sorted.
func ReadonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// paths applies the container's own lists; an empty one that is not nil hides
// nothing. A privileged container hides only what it names.
func paths(hc *container.HostConfig, f Facts, sec *security) (masked, readonly []string) {
	if sec.systemPaths {
		return nil, nil
	}
	masked, readonly = slices.Clone(hc.MaskedPaths), slices.Clone(hc.ReadonlyPaths)
	if hc.Privileged {
		return masked, readonly
	}
	if masked == nil {
		masked = MaskedPaths(f)
	}
	if readonly == nil {
		readonly = ReadonlyPaths()
	}
	return masked, readonly
}
