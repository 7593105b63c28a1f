package engine

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/ids"
	"lade/internal/network/etc"
	"lade/internal/supervisor"
	"lade/internal/supervisor/wire"
)

// nameService tells the supervisor, which answers in the containers, who is on the
// networks that users made. One goroutine does it, so that what is told last is
// what holds, and changes that come at the same time are told once.
type nameService struct {
	h    *host
	wake chan struct{} // holds one

	mu    sync.Mutex
	dirty map[string][]chan struct{} // networks to tell of, and who waits for it
	all   bool                       // everything, the networks of all containers included

	members map[string]map[string]bool // of networks, the containers that were told; run's own
}

func newNameService(h *host) *nameService {
	return &nameService{h: h, wake: make(chan struct{}, 1), dirty: map[string][]chan struct{}{}, members: map[string]map[string]bool{}}
}

// changed tells of a network, and returns when that is done: who waits for a
// container's start can then ask for it. It returns at the engine's end, too.
func (n *nameService) changed(network string) {
	if n.h.Networks.Predefined(network) {
		return
	}
	done := make(chan struct{})
	n.mu.Lock()
	n.dirty[network] = append(n.dirty[network], done)
	n.mu.Unlock()
	n.poke()
	select {
	case <-done:
	case <-n.h.ctx.Done():
	}
}

// refresh tells everything, to a supervisor that may know nothing or what was. It
// does not wait.
func (n *nameService) refresh() {
	n.mu.Lock()
	n.all = true
	n.mu.Unlock()
	n.poke()
}

func (n *nameService) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// run tells what changes until the engine ends.
func (n *nameService) run() {
	for {
		select {
		case <-n.wake:
		case <-n.h.ctx.Done():
			return
		}
		n.mu.Lock()
		dirty, all := n.dirty, n.all
		n.dirty, n.all = map[string][]chan struct{}{}, false
		n.mu.Unlock()
		if all {
			for _, w := range n.h.Networks.List() {
				if _, there := dirty[w.Name]; !n.h.Networks.Predefined(w.Name) && !there {
					dirty[w.Name] = nil
				}
			}
		}
		for network, waiting := range dirty {
			n.tell(network, !all)
			for _, done := range waiting {
				close(done)
			}
		}
		if all {
			for _, a := range n.h.containers.all() {
				n.tellContainer(a.View())
			}
		}
	}
}

// tell tells of a network, and with those to the containers that came or went what
// they can ask for now.
func (n *nameService) tell(network string, those bool) {
	m := &wire.SetNames{Network: network, Name: network}
	now := map[string]bool{}
	for _, w := range n.h.Networks.Members(network) {
		host := wire.Host{Names: []string{w.Name}}
		if a, err := n.h.containers.find(w.ContainerID); err == nil {
			r := *a.View()
			r.Name = w.Name // its own view may be a moment late
			host.Names = dnsNames(&r, w.Aliases)
		}
		if w.IPv4.IsValid() {
			host.Addresses = append(host.Addresses, w.IPv4)
		}
		if w.IPv6.IsValid() {
			host.Addresses = append(host.Addresses, w.IPv6)
		}
		m.Hosts = append(m.Hosts, host)
		now[w.ContainerID] = true
	}
	m.Across = n.across(network)
	var told sync.WaitGroup // the supervisor need not have the one before it hears the other
	defer told.Wait()
	told.Go(func() {
		err := n.h.sup.do(n.h.ctx, func(c *supervisor.Client) error { return c.SetNames(n.h.ctx, m) })
		if err != nil && n.h.ctx.Err() == nil {
			n.h.log.Error("the names of a network are not current", "network", network, "error", err)
		}
	})
	before := n.members[network]
	n.members[network] = now
	if len(now) == 0 {
		delete(n.members, network)
	}
	if !those {
		return
	}
	for id := range difference(before, now) {
		if a, err := n.h.containers.find(id); err == nil {
			n.tellContainer(a.View())
		}
	}
}

// difference returns what is in one of two sets.
func difference(a, b map[string]bool) map[string]bool {
	out := map[string]bool{}
	for _, pair := range [][2]map[string]bool{{a, b}, {b, a}} {
		for x := range pair[0] {
			if !pair[1][x] {
				out[x] = true
			}
		}
	}
	return out
}

// tellContainer gives a running container's name server its knowledge, or takes it
// away. One that is being started brings it along.
func (n *nameService) tellContainer(r *container.Record) {
	mode := r.HostConfig.NetworkMode
	if !r.State.Alive() || mode.IsContainer() || mode.IsHost() {
		return
	}
	resolv, resolver := n.h.resolv(r)
	old := n.h.plainResolv(r)
	if resolver == nil {
		old = n.h.internalResolv(r).File
	}
	err := n.h.sup.do(n.h.ctx, func(c *supervisor.Client) error {
		return c.SetResolver(n.h.ctx, &wire.SetResolver{ID: r.ID, Resolver: resolver})
	})
	if err != nil && !errors.Is(err, errdefs.NotFound) && n.h.ctx.Err() == nil {
		n.h.log.Error("a container's name server is not current", "container", r.ID, "error", err)
		return
	}
	if err := replaceResolv(filepath.Join(n.h.dir(r.ID), "resolv.conf"), old, resolv); err != nil {
		n.h.log.Warn("resolv.conf of a container", "container", r.ID, "error", err)
	}
}

// replaceResolv writes a container's resolv.conf if it is what we wrote when its
// networks were others: what somebody in the container has changed stays. It writes
// in place, because the file is bound into the container.
func replaceResolv(path string, old, now []byte) error {
	is, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(is, old) {
		return err
	}
	return overwrite(path, now)
}

// resolv returns a container's /etc/resolv.conf, and what its name server is to
// know; nil if it has none.
func (e *host) resolv(r *container.Record) ([]byte, *wire.Resolver) {
	resolver, outside := &wire.Resolver{}, false
	for _, ep := range e.Networks.Endpoints(r.ID) {
		outside = outside || ep.Gateway.IsValid() || ep.Gateway6.IsValid()
		if !e.Networks.Predefined(ep.NetworkName) {
			resolver.Networks = append(resolver.Networks, wire.ResolverNetwork{Network: ep.NetworkName, Links: e.linksIn(r, ep.NetworkName)})
		}
	}
	if len(resolver.Networks) == 0 {
		return e.plainResolv(r), nil
	}
	in := e.internalResolv(r)
	resolver.Bare = in.NDots
	if outside { // else a question outside would be a way out of internal networks
		resolver.Servers, resolver.Host = in.Servers, len(in.Servers) == 0
	}
	return in.File, resolver
}

// plainResolv returns resolv.conf for a container without a name server.
func (e *host) plainResolv(r *container.Record) []byte {
	dns, search, options := e.dns(r)
	if r.HostConfig.NetworkMode.IsHost() && len(dns)+len(search)+len(options) == 0 {
		return etc.Host()
	}
	return etc.Resolv(etc.Host(), dns, search, options)
}

// internalResolv returns it for one that has one.
func (e *host) internalResolv(r *container.Record) etc.Internal {
	file, err := os.ReadFile(etc.HostFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		e.log.Warn("the host's resolv.conf", "error", err)
	}
	dns, search, options := e.dns(r)
	return etc.ResolvInternal(file, dns, search, options)
}

func (e *host) dns(r *container.Record) (servers, search, options []string) {
	hc, d := r.HostConfig, e.settings().Defaults
	return addrs(hc.DNS, d.DNS), orList(hc.DNSSearch, d.DNSSearch), orList(hc.DNSOptions, d.DNSOptions)
}

// linksIn returns the names that a container alone has for others of a network, by
// their short ids, which no rename changes.
func (e *host) linksIn(r *container.Record, network string) map[string]string {
	ep := r.Networks[network]
	if ep == nil || len(ep.Links) == 0 {
		return nil
	}
	links := map[string]string{}
	for _, l := range ep.Links {
		name, alias, err := splitLink(l)
		if err != nil {
			continue // it was refused when it was asked for
		}
		if a, err := e.containers.find(name); err == nil {
			links[alias] = ids.Truncate(a.View().ID)
		}
	}
	return links
}
