package network

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/moby/moby/api/types/network"

	"lade/internal/errdefs"
	"lade/internal/ids"
)

// books are which networks there are, and which containers are connected with them:
// what is recorded, and what this process has beside it. A record that was returned
// is never changed, but replaced in the books.
//
// mu guards them, and of a bridge its pool, its users and which addresses are given
// out. Nothing in this file makes a system call or waits with it, nor may who takes it
// elsewhere: so an answer from the books never takes long, whatever is done to
// networks meanwhile.
type books struct {
	disabled bool    // there is no default bridge
	def      *bridge // the default one; nil without. Neither changes after New

	mu         sync.Mutex
	records    map[string]networkRecord    // by name
	bridges    map[string]*bridge          // by name
	containers map[string]*containerRecord // by container
	leases     map[string]*lease           // by container: what it has of a pool
	prefixes   []string                    // of the pools' links
}

// predefined returns the names of the networks that are always there, in the
// order in which Docker lists them.
func (k *books) predefined() []string {
	if k.disabled {
		return []string{network.NetworkNone, network.NetworkHost}
	}
	return []string{network.NetworkNone, network.NetworkHost, network.NetworkBridge}
}

// Predefined reports whether a network is one that is always there.
func (k *books) Predefined(name string) bool { return slices.Contains(k.predefined(), name) }

// names returns all networks' names, the predefined ones first.
func (k *books) names() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := k.predefined()
	first := len(out)
	for name, r := range k.records {
		if r.User != nil {
			out = append(out, name)
		}
	}
	slices.Sort(out[first:])
	return out
}

// Resolve returns the name of the network with an id, a name, or a unique
// prefix of an id, in this order; "" and "default" are the bridge. Errors: NotFound,
// Invalid for an ambiguous prefix.
func (k *books) Resolve(name string) (string, error) {
	if name == "" || name == network.NetworkDefault {
		name = network.NetworkBridge
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	_, named := k.records[name]
	if named && len(name) != ids.Len {
		return name, nil
	}
	var found []string
	for have, r := range k.records {
		if r.ID == name {
			return have, nil // before another one that bears it as its name
		}
		if strings.HasPrefix(r.ID, name) {
			found = append(found, have)
		}
	}
	if named {
		return name, nil
	}
	switch len(found) {
	case 0:
		return "", errdefs.NotFoundf("network %s not found", name)
	case 1:
		return found[0], nil
	}
	return "", errdefs.Invalidf("network %s is ambiguous (%d matches found based on ID prefix)", name, len(found))
}

// ID returns the id of the network with a name, "" when there is none.
func (k *books) ID(name string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.records[name].ID
}

// Driver returns the driver of the network with a name.
func (k *books) Driver(name string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.driverLocked(name)
}

func (k *books) driverLocked(name string) string {
	switch name {
	case network.NetworkHost:
		return "host"
	case network.NetworkNone:
		return "null"
	}
	if u := k.records[name].User; u != nil {
		return u.Driver
	}
	return driverBridge
}

// configured returns a request with what the configuration says that it is to be
// taken from. Errors: NotFound.
func (k *books) configured(q network.CreateRequest) (network.CreateRequest, error) {
	if q.ConfigFrom == nil || q.ConfigFrom.Network == "" {
		return q, nil
	}
	k.mu.Lock()
	u := k.records[q.ConfigFrom.Network].User
	k.mu.Unlock()
	if u == nil || u.Held == nil {
		return q, errdefs.NotFoundf("configuration network %q does not exist", q.ConfigFrom.Network)
	}
	q.Options, q.Labels = maps.Clone(u.Options), maps.Clone(u.Labels)
	q.EnableIPv4, q.EnableIPv6 = &u.Held.IPv4, &u.Held.IPv6
	q.IPAM = &network.IPAM{Driver: cmp.Or(u.IPAMDriver, "default"), Config: slices.Clone(u.Pools), Options: maps.Clone(u.IPAMOptions)}
	return q, nil
}

// subnets returns the subnets of all networks that were created. It is of New, before
// anybody else asks: mu is not taken.
func (k *books) subnets() (out []netip.Prefix) {
	for _, r := range k.records {
		if r.User != nil && r.User.Held == nil {
			for _, p := range r.User.Pools {
				out = append(out, p.Subnet.Masked())
			}
		}
	}
	return out
}

// bridge returns the bridge of a network; nil for host, none, and one that is
// gone.
func (k *books) bridge(name string) *bridge {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.bridges[name]
}

// allBridges returns the bridges, the default one first.
func (k *books) allBridges() []*bridge {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := slices.Collect(maps.Values(k.bridges))
	slices.SortFunc(out, func(a, b *bridge) int {
		if a == k.def || b == k.def {
			return cmp.Compare(bit(b == k.def), bit(a == k.def))
		}
		return strings.Compare(a.network, b.network)
	})
	return out
}

// madeBy reports whether the link of a network is ours to remove.
func (k *books) madeBy(name string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.records[name].Made
}

// needed reports whether a network's link is ours to make or somebody is in it.
func (k *books) needed(b *bridge) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.records[b.network].Made || b.users > 0
}

// inherits reports whether the parent of a network is there because another
// network of ours made it.
func (k *books) inherits(b *bridge) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, o := range k.bridges {
		if o.children != nil && o.children.parent == b.children.parent && k.records[name].Made {
			return true
		}
	}
	return false
}

// sharing finds the encrypted networks with the address and port of one.
func (k *books) sharing(a *across) func() []*across {
	return func() (out []*across) {
		for _, b := range k.allBridges() {
			if o := b.across; o != nil && o.Encrypted && o.Local == a.Local && o.Port == a.Port {
				out = append(out, o)
			}
		}
		return out
	}
}

// idle reports whether no container is connected to a bridge.
func (k *books) idle() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range k.bridges {
		if b.users > 0 {
			return false
		}
	}
	return true
}

// record returns what is known of a container.
func (k *books) record(containerID string) (*containerRecord, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, ok := k.containers[containerID]
	return c, ok
}

// Containers returns the ids of the connected containers, in order.
func (k *books) Containers() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Sorted(maps.Keys(k.containers))
}

// Members returns the containers of a network, by its name, in no order: what a
// name server there answers from. It is empty for a network that is not there.
func (k *books) Members(name string) []Member {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []Member
	for id, c := range k.containers {
		if e := c.in(name); e != nil {
			out = append(out, Member{ContainerID: id, Name: c.Name, Aliases: e.Aliases, Links: e.Links, IPv4: e.IPv4.Addr(), IPv6: e.IPv6.Addr()})
		}
	}
	return out
}

// Connection returns how a container is connected now.
func (k *books) Connection(containerID string) Connection {
	c, _ := k.record(containerID)
	return Connection{c}
}

// ownerOf returns the container that has an endpoint, by the endpoint's id.
func (k *books) ownerOf(endpoint string) (id string, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, c := range k.containers {
		if slices.ContainsFunc(c.Endpoints, func(e *endpointRecord) bool { return e.ID == endpoint }) {
			return id, true
		}
	}
	return "", false
}

// holders returns the networks in which containers have an interface, by their
// ids, whose end in the host has a name.
func (k *books) holders(name string) map[string]string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out map[string]string
	for id, c := range k.containers {
		for _, e := range c.Endpoints {
			if e.Link == name && name != "" {
				if out == nil {
					out = map[string]string{}
				}
				out[id] = e.Network
			}
		}
	}
	return out
}

// linksOf returns the names of the links that containers have in a bridge.
func (k *books) linksOf(b *bridge) map[string]bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := map[string]bool{}
	for _, c := range k.containers {
		if e := c.in(b.network); e != nil {
			out[e.Link] = true
		}
	}
	return out
}

// Harmless tells that no process of the container can change its network
// namespace or outlive the container: the namespace may be used again for
// another one. Nothing else makes Release do that.
func (k *books) Harmless(containerID string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l := k.leases[containerID]; l != nil {
		l.harmless = true
	}
}

// Share tells that processes which are not the container's, or have more rights
// than its own, are about to enter its network namespace, which is therefore
// not used again. Errors: NotFound for a container that is not connected.
func (k *books) Share(containerID string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.containers[containerID] == nil {
		return errdefs.NotFoundf("container %s is not connected", containerID)
	}
	if l := k.leases[containerID]; l != nil {
		l.changed = true
	}
	return nil
}
