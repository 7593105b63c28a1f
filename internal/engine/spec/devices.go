package spec

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
)

// devices lists the nodes to make in /dev besides the default ones, and the
// rules of the control group.
func devices(in Input) (nodes []specs.LinuxDevice, rules []specs.LinuxDeviceCgroup, err error) {
	if in.Host.Privileged {
		if in.Devices == nil {
			return nil, nil, errdefs.Internalf("spec: no device lookup for a privileged container")
		}
		if nodes, err = in.Devices("/dev"); err != nil {
			return nil, nil, err
		}
		rules = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	} else {
		rules = append([]specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}, cgroup.DefaultDevices()...)
	}
	for _, m := range in.Host.Devices {
		if in.Host.Privileged && m.PathOnHost == m.PathInContainer {
			continue // it is there
		}
		if m.CgroupPermissions == "" {
			m.CgroupPermissions = "rwm"
		}
		if strings.Trim(m.CgroupPermissions, "rwm") != "" {
			return nil, nil, errdefs.Invalidf("invalid device mode: %s", m.CgroupPermissions)
		}
		if m.PathInContainer == "" {
			m.PathInContainer = m.PathOnHost
		}
		if !path.IsAbs(m.PathInContainer) {
			return nil, nil, errdefs.Invalidf("invalid device path %q: it must be absolute", m.PathInContainer)
		}
		if in.Devices == nil {
			return nil, nil, errdefs.Internalf("spec: no device lookup for %s", m.PathOnHost)
		}
		found, err := in.Devices(m.PathOnHost)
		if err != nil {
			return nil, nil, err
		}
		for _, d := range found {
			if rest, below := strings.CutPrefix(d.Path, path.Clean(m.PathOnHost)+"/"); below && len(found) > 0 {
				d.Path = path.Join(m.PathInContainer, rest)
			} else {
				d.Path = path.Clean(m.PathInContainer)
			}
			nodes = slices.DeleteFunc(nodes, func(o specs.LinuxDevice) bool { return o.Path == d.Path })
			nodes = append(nodes, d)
			if !in.Host.Privileged && d.Type != "p" {
				rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: m.CgroupPermissions})
			}
		}
	}
	if in.Host.Privileged {
		return nodes, rules, nil
	}
	for _, r := range in.Host.DeviceCgroupRules {
		rule, err := parseRule(r)
		if err != nil {
			return nil, nil, err
		}
		rules = append(rules, rule)
	}
	return nodes, rules, nil
}

// parseRule reads "c 1:3 rwm", as --device-cgroup-rule has it. Errors: Invalid.
func parseRule(s string) (r specs.LinuxDeviceCgroup, err error) {
	bad := errdefs.Invalidf("invalid device cgroup rule format: '%s'", s)
	f := strings.Split(s, " ")
	if len(f) != 3 || !slices.Contains([]string{"a", "b", "c"}, f[0]) || f[2] == "" || len(f[2]) > 3 || strings.Trim(f[2], "rwm") != "" {
		return r, bad
	}
	major, minor, ok := strings.Cut(f[1], ":")
	if !ok {
		return r, bad
	}
	number := func(s string) *int64 {
		if s == "*" {
			return nil
		}
		n, e := strconv.ParseUint(s, 10, 20)
		if e != nil {
			err = bad
		}
		v := int64(n)
		return &v
	}
	r = specs.LinuxDeviceCgroup{Allow: true, Type: f[0], Major: number(major), Minor: number(minor), Access: f[2]}
	return r, err
}

// DeviceRules are the rules of the control group of a container with these
// devices. Errors: as of Build.
func DeviceRules(hc *container.HostConfig, find func(string) ([]specs.LinuxDevice, error)) ([]specs.LinuxDeviceCgroup, error) {
	_, rules, err := devices(Input{Host: hc, Devices: find})
	return rules, err
}
