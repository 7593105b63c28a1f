package spec

import (
	"strings"

	"github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
	"lade/internal/linux/selinux"
)

// Labels are the SELinux contexts of a container; empty ones are not set.
type Labels struct {
	Process string `json:"process,omitempty"` // of its processes
	Mount   string `json:"mount,omitempty"`   // of the files that are made for it
}

// AsksLabels reports whether a container says itself what SELinux labels it
// gets.
func AsksLabels(hc *container.HostConfig) bool {
	s, err := parseSecurity(hc, SecurityDefaults{})
	return err == nil && len(s.labels) > 0
}

// ChooseLabels decides about a new container's contexts: those of the policy,
// changed by --security-opt label=…, with categories from levels, which are
// held until they are freed. Like is the process context of the container whose
// processes or IPC it shares, or empty; free says that it shares the host's.
// Errors: Invalid for an option that there is not; Exhausted.
func ChooseLabels(hc *container.HostConfig, d *selinux.Defaults, levels *selinux.Levels, like string, free bool) (Labels, error) {
	s, err := parseSecurity(hc, SecurityDefaults{})
	if err != nil {
		return Labels{}, err
	}
	process, file := d.Process, d.File
	process.Level, file.Level = "", ""
	switch {
	case len(s.labels) > 0:
		for _, option := range s.labels {
			if option == "disable" {
				return Labels{Mount: d.Unconfined().String()}, nil
			}
			if err := applyLabel(&process, &file, option); err != nil {
				return Labels{}, err
			}
		}
	case free || hc.Privileged:
		return Labels{Mount: d.Unconfined().String()}, nil
	case like != "":
		if process, err = selinux.Parse(like); err != nil {
			return Labels{}, err
		}
		file.Level = process.Level
	}
	switch {
	case process.Level != "":
		levels.Hold(process.Level)
	case d.Process.Level != "": // else the policy has no levels
		if process.Level, err = levels.Allocate(d.Process.Shared().Level); err != nil {
			return Labels{}, err
		}
		file.Level = process.Level
	}
	l := Labels{process.String(), file.String()}
	if hc.Privileged {
		l.Process = "" // it may do everything, whatever its files are called
	}
	return l, nil
}

// applyLabel changes the contexts as one option says.
func applyLabel(process, file *selinux.Context, option string) error {
	key, value, ok := strings.Cut(option, ":")
	if !ok || value == "" {
		return errdefs.Invalidf("bad label option %q, valid options 'disable' or 'user, role, level, type, filetype' followed by ':' and a value", option)
	}
	switch key {
	case "user":
		process.User, file.User = value, value
	case "role":
		process.Role = value // files have one that is no user's
	case "type":
		process.Type = value
	case "filetype":
		file.Type = value
	case "level":
		process.Level, file.Level = value, value
	default:
		return errdefs.Invalidf("bad label option %q, valid options 'disable, user, role, level, type, filetype'", key)
	}
	return nil
}
