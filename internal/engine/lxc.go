package engine

import (
	"path"
	"slices"
	"strings"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"lade/internal/engine/spec"
	"lade/internal/errdefs"
)

// lxcCannot refuses at create what LXC would refuse at the start, as far as it
// is seen in the configuration; see package runtime/lxc.
func lxcCannot(c *apicontainer.Config, hc *apicontainer.HostConfig, systemd bool) error {
	refuse := func(what string) error { return errdefs.Invalidf("runtime lxc cannot do this: %s", what) }
	own := !hc.NetworkMode.IsHost() && !hc.NetworkMode.IsContainer()
	for key := range hc.Sysctls {
		if !own || !strings.HasPrefix(key, "net.") && !strings.HasPrefix(key, "net/") { // the network writes those
			return refuse("sysctl " + key)
		}
	}
	onDev := func(dest string) bool { return path.Clean(dest) == "/dev" }
	_, tmpfs := hc.Tmpfs["/dev"]
	_, volume := c.Volumes["/dev"]
	switch {
	case systemd: // it makes them itself, and takes none that is there
		return refuse("control groups by systemd")
	case hc.CgroupnsMode.IsHost() && !hc.Privileged: // which implies it on version 1
		return refuse("the host's control group namespace")
	case hc.Annotations[spec.TimeAnnotation] != "":
		return refuse("a time namespace")
	case c.Domainname != "":
		return refuse("domain name " + c.Domainname)
	case hc.Umask != nil:
		return refuse("a umask")
	case slices.ContainsFunc(c.Env, func(kv string) bool { return strings.ContainsAny(kv, "\n\r") }):
		return refuse("environment variables of more than one line")
	case tmpfs, volume,
		slices.ContainsFunc(hc.Binds, func(b string) bool { f := strings.Split(b, ":"); return len(f) > 1 && onDev(f[1]) }),
		slices.ContainsFunc(hc.Mounts, func(m mount.Mount) bool { return onDev(m.Target) }):
		return refuse("a mount on /dev")
	case slices.ContainsFunc(hc.Binds, func(b string) bool {
		m, err := parseBind(b)
		return err == nil && spreads(m.Propagation)
	}), slices.ContainsFunc(hc.Mounts, func(m mount.Mount) bool { return m.BindOptions != nil && spreads(m.BindOptions.Propagation) }):
		return refuse("a bind whose mounts spread to the host (shared)")
	}
	return nil
}

// spreads reports whether mounts of the container would be the host's, too: LXC
// makes every mount a slave before it binds anything.
func spreads(p mount.Propagation) bool {
	return p == mount.PropagationShared || p == mount.PropagationRShared
}
