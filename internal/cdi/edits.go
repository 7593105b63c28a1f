package cdi

import (
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
)

// Edits are what the devices of a container bring.
type Edits struct{ list []*edits }

// NeedsRuntime reports whether something of it is a matter of an OCI runtime's
// steps: hooks, network devices, Intel RDT.
func (e *Edits) NeedsRuntime() bool {
	return slices.ContainsFunc(e.list, func(x *edits) bool {
		return len(x.Hooks) > 0 || len(x.NetDevices) > 0 || x.IntelRDT != nil
	})
}

// Groups are additional groups of the process, as numbers.
func (e *Edits) Groups() (groups []string) {
	for _, x := range e.list {
		for _, gid := range x.GIDs {
			if gid != 0 { // root's, which nobody gets by a device
				groups = append(groups, strconv.FormatUint(uint64(gid), 10))
			}
		}
	}
	return groups
}

// Apply puts it into a specification, which has a process, Linux and resources.
// find looks a device of the host up. Errors: Invalid.
func (e *Edits) Apply(s *specs.Spec, find func(path string) ([]specs.LinuxDevice, error)) error {
	for _, x := range e.list {
		for _, v := range x.Env {
			setEnv(s.Process, v)
		}
		for _, n := range x.DeviceNodes {
			d, err := n.device(find)
			if err != nil {
				return errdefs.Invalidf("CDI device injection failed: %w", err)
			}
			addDevice(s.Linux, d, n.Permissions)
		}
		for _, m := range x.Mounts {
			addMount(s, m)
		}
		for _, h := range x.Hooks {
			addHook(s, h)
		}
		for _, n := range x.NetDevices {
			if s.Linux.NetDevices == nil {
				s.Linux.NetDevices = map[string]specs.LinuxNetDevice{}
			}
			s.Linux.NetDevices[n.Host] = specs.LinuxNetDevice{Name: n.Name}
		}
		if x.IntelRDT != nil {
			s.Linux.IntelRdt = x.IntelRDT
		}
	}
	return nil
}

// setEnv sets a variable, in the place of one of that name.
func setEnv(p *specs.Process, v string) {
	name, _, _ := strings.Cut(v, "=")
	i := slices.IndexFunc(p.Env, func(o string) bool { return strings.HasPrefix(o, name+"=") })
	if i < 0 {
		p.Env = append(p.Env, v)
		return
	}
	p.Env[i] = v
}

// device completes a node by what the host has.
func (n *node) device(find func(string) ([]specs.LinuxDevice, error)) (specs.LinuxDevice, error) {
	d := specs.LinuxDevice{Path: n.Path, Type: n.Type, Major: n.Major, Minor: n.Minor, FileMode: n.FileMode, UID: n.UID, GID: n.GID}
	if d.Type == "p" || d.Type != "" && d.Major != 0 {
		return d, nil
	}
	at := n.HostPath
	if at == "" {
		at = n.Path
	}
	found, err := find(at)
	if err != nil {
		return d, err
	}
	if len(found) != 1 || d.Type != "" && d.Type != found[0].Type {
		return d, errdefs.Invalidf("%s is not the device that is meant", at)
	}
	d.Type, d.Major, d.Minor = found[0].Type, found[0].Major, found[0].Minor
	if d.FileMode == nil {
		d.FileMode = found[0].FileMode
	}
	return d, nil
}

// addDevice adds a node in the place of one at its path, and what the control
// group allows with it.
func addDevice(l *specs.Linux, d specs.LinuxDevice, access string) {
	l.Devices = slices.DeleteFunc(l.Devices, func(o specs.LinuxDevice) bool { return o.Path == d.Path })
	l.Devices = append(l.Devices, d)
	if d.Type == "p" {
		return
	}
	if access == "" {
		access = "rwm"
	}
	l.Resources.Devices = append(l.Resources.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: access})
}

// addMount adds a mount in the place of one at its path, before those below it.
func addMount(s *specs.Spec, m mount) {
	s.Mounts = slices.DeleteFunc(s.Mounts, func(o specs.Mount) bool { return o.Destination == m.ContainerPath })
	out := specs.Mount{Type: m.Type, Source: m.HostPath, Destination: m.ContainerPath, Options: slices.Clone(m.Options)}
	if out.Type == "" {
		out.Type = "bind"
	}
	if out.Type == "bind" && !slices.Contains(out.Options, "bind") && !slices.Contains(out.Options, "rbind") {
		out.Options = append([]string{"rbind"}, out.Options...)
	}
	i := slices.IndexFunc(s.Mounts, func(o specs.Mount) bool { return strings.HasPrefix(o.Destination, m.ContainerPath+"/") })
	if i < 0 {
		i = len(s.Mounts)
	}
	s.Mounts = slices.Insert(s.Mounts, i, out)
}

func addHook(s *specs.Spec, h hook) {
	if s.Hooks == nil {
		s.Hooks = &specs.Hooks{}
	}
	list := map[string]*[]specs.Hook{
		//lint:ignore SA1019 vendors still use it
		"prestart": &s.Hooks.Prestart, "createRuntime": &s.Hooks.CreateRuntime, "createContainer": &s.Hooks.CreateContainer,
		"startContainer": &s.Hooks.StartContainer, "poststart": &s.Hooks.Poststart, "poststop": &s.Hooks.Poststop,
	}[h.Name]
	*list = append(*list, specs.Hook{Path: h.Path, Args: h.Args, Env: h.Env, Timeout: h.Timeout})
}
