package spec

import (
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/linux/caps"
)

// defaultCaps is what a container has unless it says otherwise.
func defaultCaps() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
		"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

// Capabilities brings a list of --cap-add or --cap-drop into its canonical
// form: upper case, with the prefix CAP_; ALL stays. Errors: Invalid for a name
// that does not exist, or that this host cannot give.
func Capabilities(list []string, f Facts) ([]string, error) {
	var out []string
	for _, c := range list {
		c = strings.ToUpper(c)
		if c == "ALL" {
			out = append(out, c)
			continue
		}
		if !strings.HasPrefix(c, "CAP_") {
			c = "CAP_" + c
		}
		if _, unknown := caps.Parse([]string{c}); len(unknown) > 0 {
			return nil, errdefs.Invalidf("unknown capability: %q", c)
		}
		if !slices.Contains(f.Capabilities, c) {
			return nil, errdefs.Invalidf("capability not supported by your kernel or not available in the current environment: %q", c)
		}
		out = append(out, c)
	}
	return out, nil
}

// capabilities returns what the container's processes can have at most.
func capabilities(hc *container.HostConfig, f Facts) ([]string, error) {
	if hc.Privileged {
		return slices.Clone(f.Capabilities), nil
	}
	add, err := Capabilities(hc.CapAdd, f)
	if err != nil {
		return nil, err
	}
	drop, err := Capabilities(hc.CapDrop, f)
	if err != nil {
		return nil, err
	}
	var out []string
	put := func(list []string, except []string) {
		for _, c := range list {
			if c != "ALL" && !slices.Contains(except, c) && !slices.Contains(out, c) && slices.Contains(f.Capabilities, c) {
				out = append(out, c)
			}
		}
	}
	switch {
	case slices.Contains(add, "ALL"):
		put(f.Capabilities, drop)
	case slices.Contains(drop, "ALL"):
		put(add, nil)
	default:
		put(defaultCaps(), drop)
		put(add, nil)
	}
	return out, nil
}

// capabilitySets makes the sets of a process that starts as root. The kernel
// clears the effective and permitted ones for another user. Nothing is
// inheritable: CVE-2022-24769.
func capabilitySets(list []string) *specs.LinuxCapabilities {
	return &specs.LinuxCapabilities{Bounding: list, Effective: slices.Clone(list), Permitted: slices.Clone(list)}
}
