package engine

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
	nets "lade/internal/network"
	"lade/internal/network/etc"
)

// The options of an endpoint, in Docker's words.
const (
	optIfname  = "com.docker.network.endpoint.ifname"
	optSysctls = "com.docker.network.endpoint.sysctls"
)

// onlyBridge reports whether a request asks for the default network alone, in
// one of the ways to say it.
func onlyBridge(n *network.NetworkingConfig, mode apicontainer.NetworkMode) bool {
	if !mode.IsDefault() && !mode.IsBridge() {
		return false
	}
	if n != nil {
		for name := range n.EndpointsConfig {
			if name != network.NetworkDefault && name != network.NetworkBridge {
				return false
			}
		}
	}
	return true
}

// endpoints are the networks that a request asks for, under the names of those
// that are there and its own words for others: start says that they are not.
func (e *Engine) endpoints(n *network.NetworkingConfig, mode apicontainer.NetworkMode) (map[string]*network.EndpointSettings, error) {
	out := map[string]*network.EndpointSettings{}
	if n != nil {
		for name, ep := range n.EndpointsConfig {
			if ep == nil {
				ep = &network.EndpointSettings{}
			}
			name = e.networkName(name)
			if out[name] != nil {
				return nil, errdefs.Invalidf("network %s is asked for twice", name)
			}
			out[name] = ep
		}
	}
	// Who says nothing of the mode, and names networks, wants those only.
	if usual := mode.IsDefault() || mode.IsBridge(); !mode.IsContainer() && !(usual && len(out) > 0) {
		if name := e.networkName(mode.NetworkName()); out[name] == nil {
			out[name] = &network.EndpointSettings{}
		}
	}
	for name, ep := range out {
		if err := checkEndpoint(name, ep); err != nil {
			return nil, err
		}
	}
	if len(out) > 1 {
		for name := range out {
			if m := apicontainer.NetworkMode(name); m.IsHost() || m.IsNone() {
				return nil, errdefs.Invalidf("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
			}
		}
	}
	return out, nil
}

// networkName returns the name of a network that is there, else what was said.
func (e *host) networkName(said string) string {
	if name, err := e.Networks.Resolve(said); err == nil {
		return name
	}
	return said
}

// checkEndpoint refuses what an endpoint cannot have, in Docker's words.
func checkEndpoint(name string, ep *network.EndpointSettings) error {
	user := apicontainer.NetworkMode(name).IsUserDefined()
	if !user && len(ep.Aliases) > 0 {
		return errdefs.Invalidf("invalid config for network %s: invalid endpoint settings:\nnetwork-scoped alias is supported only for containers in user defined networks", name)
	}
	if c := ep.IPAMConfig; c != nil {
		if !user && (c.IPv4Address.IsValid() || c.IPv6Address.IsValid()) {
			return errdefs.Invalidf("invalid config for network %s: invalid endpoint settings:\nuser specified IP address is supported on user defined networks only", name)
		}
		if c.IPv4Address.IsValid() && !c.IPv4Address.Is4() || c.IPv6Address.IsValid() && !c.IPv6Address.Is6() {
			return errdefs.Invalidf("invalid config for network %s: invalid endpoint settings:\nan IPv4 and an IPv6 address are not in their places", name)
		}
		for _, ip := range c.LinkLocalIPs {
			if !ip.IsLinkLocalUnicast() {
				return errdefs.Invalidf("invalid config for network %s: invalid endpoint settings:\ninvalid link-local IP address: %s", name, ip)
			}
		}
	}
	if n := len(ep.MacAddress); n != 0 && n != 6 {
		return errdefs.Invalidf("invalid config for network %s: invalid endpoint settings:\ninvalid MAC address: %s", name, ep.MacAddress)
	}
	if name := ep.DriverOpts[optIfname]; len(name) >= unix.IFNAMSIZ || strings.ContainsAny(name, "/ \t\n%:") || name == "." || name == ".." || name == "lo" {
		return errdefs.Invalidf("invalid interface name %q", name)
	}
	_, err := endpointSysctls(ep)
	return err
}

// endpointSysctls reads "name=value,…", in which IFNAME stands for the interface.
func endpointSysctls(ep *network.EndpointSettings) (map[string]string, error) {
	out := map[string]string{}
	for s := range strings.SplitSeq(ep.DriverOpts[optSysctls], ",") {
		if s == "" {
			continue
		}
		k, v, ok := strings.Cut(s, "=")
		if !ok || !strings.HasPrefix(k, "net.") && !strings.HasPrefix(k, "net/") || !strings.Contains(k, "IFNAME") {
			return nil, errdefs.Invalidf("invalid sysctl %q: want net.….IFNAME.…=value", s)
		}
		out[k] = v
	}
	return out, nil
}

// request is what a container asks of a network.
func (e *host) request(r *container.Record, name string, ep *network.EndpointSettings) (nets.Request, error) {
	q := nets.Request{
		ContainerID: r.ID, Name: r.Name, Network: name, Rates: r.NetRates, MAC: net.HardwareAddr(ep.MacAddress),
		Priority: ep.GwPriority, Links: ep.Links, Again: e.had.of(r.ID, name), Interface: ep.DriverOpts[optIfname],
	}
	if apicontainer.NetworkMode(name).IsUserDefined() {
		q.Aliases = slices.Clone(ep.Aliases)
		if h := r.Config.Hostname; h != "" && h != r.Name && !slices.Contains(q.Aliases, h) {
			q.Aliases = append(q.Aliases, h)
		}
	}
	if c := ep.IPAMConfig; c != nil {
		q.IPv4, q.IPv6, q.LinkLocal = c.IPv4Address, c.IPv6Address, c.LinkLocalIPs
	}
	var err error
	q.Sysctls, err = endpointSysctls(ep)
	return q, err
}

// firstNetwork returns the network that a container has eth0 in: that of its
// mode, unless it was disconnected from it.
func (e *host) firstNetwork(r *container.Record) string {
	name := e.networkName(r.HostConfig.NetworkMode.NetworkName())
	if _, ok := r.Networks[name]; ok || len(r.Networks) == 0 {
		return name
	}
	return slices.Sorted(maps.Keys(r.Networks))[0]
}

// connectAll connects a container to its networks, the one with eth0 first. own
// is a namespace made for it, or nil. netns is the one that it got; nil for
// host. On error nothing remains.
func (e *host) connectAll(ctx context.Context, r *container.Record, own *os.File) (netns *os.File, err error) {
	first := e.firstNetwork(r)
	ep := r.Networks[first]
	if ep == nil {
		ep = &network.EndpointSettings{}
	}
	q, err := e.request(r, first, ep)
	if err != nil {
		return nil, err
	}
	if q.Ports, err = published(r); err != nil {
		return nil, err
	}
	q.NetNS = own
	maps.Copy(q.Sysctls, netSysctls(r.HostConfig.Sysctls))
	got, err := e.Networks.Connect(ctx, q)
	if err != nil {
		return nil, err
	}
	e.publishNetwork(events.ActionConnect, r, got)
	if len(r.Networks) <= 1 {
		return got.NetNS, nil
	}
	for _, name := range slices.Sorted(maps.Keys(r.Networks)) {
		if name == first {
			continue
		}
		if err := e.attachNetwork(ctx, r, name, got.NetNS); err != nil {
			if got.NetNS != nil {
				got.NetNS.Close()
			}
			return nil, errors.Join(err, e.Networks.Release(ctx, r.ID))
		}
	}
	return got.NetNS, nil
}

// attachNetwork connects a container to a further network.
func (e *host) attachNetwork(ctx context.Context, r *container.Record, name string, netns *os.File) error {
	q, err := e.request(r, name, r.Networks[name])
	if err != nil {
		return err
	}
	q.NetNS = netns
	got, err := e.Networks.Attach(ctx, q)
	if err != nil {
		return err
	}
	e.publishNetwork(events.ActionConnect, r, got)
	return nil
}

// openNetNS opens the network namespace of a container that runs. The caller
// must close it. Errors: Conflict when it has just ended.
func (e *host) openNetNS(r *container.Record) (*os.File, error) {
	ns, err := os.Open(namespacePath(r, "net"))
	if err != nil {
		return nil, errdefs.Conflictf("container %s is not running", r.ID)
	}
	// Its process id may be another one's by now, but not as long as we see that
	// the process is there.
	if !e.sup.alive(r.ID) {
		ns.Close()
		return nil, errdefs.Conflictf("container %s is not running", r.ID)
	}
	return ns, nil
}

// NetworkConnect connects a container to a network, at once if it runs. Errors:
// NotFound; otherwise as network.Networks.Attach.
func (e *Engine) NetworkConnect(ctx context.Context, name, id string, ep *network.EndpointSettings) error {
	a, err := e.Find(id)
	if err != nil {
		return err
	}
	name, err = e.Networks.Resolve(name)
	if err != nil {
		return err
	}
	if ep == nil {
		ep = &network.EndpointSettings{}
	}
	if err := checkEndpoint(name, ep); err != nil {
		return err
	}
	asked := &network.EndpointSettings{
		IPAMConfig: ep.IPAMConfig, Links: ep.Links, Aliases: ep.Aliases, DriverOpts: ep.DriverOpts, GwPriority: ep.GwPriority, MacAddress: ep.MacAddress,
	}
	change := func(r *container.Record) error {
		if err := mayConnect(r, name); err != nil {
			return err
		}
		if r.Networks == nil {
			r.Networks = map[string]*network.EndpointSettings{}
		}
		r.Networks[name] = asked
		return nil
	}
	return a.Reconnect(ctx, change, func(ctx context.Context, r *container.Record) error {
		ns, err := e.openNetNS(r)
		if err != nil {
			return err
		}
		defer ns.Close()
		if err := e.attachNetwork(ctx, r, name, ns); err != nil {
			return err
		}
		return e.updateHosts(r)
	})
}

// mayConnect refuses a further network where there can be none, in Docker's words.
func mayConnect(r *container.Record, name string) error {
	mode := r.HostConfig.NetworkMode
	switch {
	case mode.IsContainer(), mode.IsHost():
		return errdefs.Invalidf("container sharing network namespace with another container or host cannot be connected to any other network")
	case name == network.NetworkHost:
		return errdefs.Invalidf("container cannot be disconnected from host network or connected to host network")
	case r.Networks[name] != nil:
		return errdefs.Forbiddenf("endpoint with name %s already exists in network %s", r.Name, name)
	case name == network.NetworkNone && len(r.Networks) > 0, r.Networks[network.NetworkNone] != nil:
		return errdefs.Invalidf("container cannot be connected to multiple networks with one of the networks in private (none) mode")
	}
	return nil
}

// NetworkDisconnect disconnects a container from a network, at once if it runs.
// With force it also removes the endpoint of a container that is not there any
// more, of which there is none here. Errors: NotFound; Internal, as in Docker,
// when it is not connected.
func (e *Engine) NetworkDisconnect(ctx context.Context, name, id string, _ bool) error {
	a, err := e.Find(id)
	if err != nil {
		return err
	}
	resolved, err := e.Networks.Resolve(name)
	gone := errdefs.KindOf(err) == errdefs.NotFound // the container may have it still
	if err != nil && !gone {
		return err
	}
	if gone {
		resolved = name
		if a.View().Networks[name] == nil {
			return err
		}
	}
	change := func(r *container.Record) error {
		if r.HostConfig.NetworkMode.IsHost() && resolved == network.NetworkHost {
			return errdefs.Invalidf("container cannot be disconnected from host network or connected to host network")
		}
		if r.Networks[resolved] == nil {
			return errdefs.Internalf("container %s is not connected to network %s", r.ID, resolved)
		}
		delete(r.Networks, resolved)
		return nil
	}
	return a.Reconnect(ctx, change, func(ctx context.Context, r *container.Record) error {
		ns, err := e.openNetNS(r)
		if err != nil {
			return err
		}
		defer ns.Close()
		i := slices.IndexFunc(e.Networks.Endpoints(r.ID), func(ep *nets.Endpoint) bool { return ep.NetworkName == resolved })
		if i < 0 {
			return nil
		}
		ep := e.Networks.Endpoints(r.ID)[i]
		if err := e.Networks.Detach(ctx, r.ID, resolved, ns); err != nil {
			return err
		}
		e.publishNetwork(events.ActionDisconnect, r, ep)
		return e.updateHosts(r)
	})
}

// updateHosts changes the lines of /etc/hosts that are about the container
// itself, and leaves the others as they are.
func (e *host) updateHosts(r *container.Record) error {
	return e.editHosts(r.ID, func(f []byte) []byte {
		return etc.Replace(f, r.Config.Hostname, r.Config.Domainname, e.addresses(r.ID))
	})
}

// editHosts changes a container's /etc/hosts.
func (e *host) editHosts(id string, edit func([]byte) []byte) error {
	path := filepath.Join(e.dir(id), "hosts")
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return overwrite(path, edit(old))
}

// overwrite changes a text that is bound into a container, in place. Who reads it
// meanwhile may find the beginning of what is, followed by what was or by empty
// lines, but never nothing; and the file system keeps its block: to give it up and to
// take another one takes longer than all the rest.
func overwrite(path string, now []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	more := max(0, int(fi.Size())-len(now))
	if _, err := f.WriteAt(append(slices.Clip(now), bytes.Repeat([]byte{'\n'}, more)...), 0); err != nil {
		return err
	}
	if more > 0 {
		return f.Truncate(int64(len(now)))
	}
	return nil
}
