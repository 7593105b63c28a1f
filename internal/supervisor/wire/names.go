package wire

import "net/netip"

// The types of the messages about names.
const (
	TypeSetResolver Type = 24
	TypeSetNames    Type = 25
)

// Resolver is what a container's name server, 127.0.0.11 in its network
// namespace, is to know. It replaces what it knew before.
type Resolver struct {
	// Networks are those that the container is on; the first that has a name
	// answers.
	Networks []ResolverNetwork `json:"networks,omitempty"`
	// Servers are asked what is not known, from the container's namespace, in this
	// order.
	Servers []string `json:"servers,omitempty"`
	// Host asks those of the host's resolv.conf, as it is then, from the host's
	// namespace. Without it and without Servers nobody is asked (SERVFAIL).
	Host bool `json:"host,omitempty"`
	// Bare keeps names without a dot from those servers: the user has set ndots.
	Bare bool `json:"bare,omitempty"`
}

// ResolverNetwork is a container's place in a network.
type ResolverNetwork struct {
	Network string `json:"network"` // id, as in SetNames
	// Links are names that this container alone has for others of the network.
	Links map[string]string `json:"links,omitempty"`
}

// SetResolver gives a running container a name server, or another knowledge to
// the one it has; nil takes it away. A Start brings its own.
type SetResolver struct {
	ID       string    `json:"id"`
	Resolver *Resolver `json:"resolver,omitempty"`
}

// SetNames says which names there are on a network: all of them. Without hosts
// the network is forgotten.
type SetNames struct {
	Network string `json:"network"` // id
	Name    string `json:"name"`    // with which "host.name" asks this network alone
	Hosts   []Host `json:"hosts,omitempty"`
	// Across says that other hosts have the network, too; nil: it is of this host.
	Across *Across `json:"across,omitempty"`
}

// Across is where supervisors ask each other for the names of a network that is on
// several hosts: by DNS over UDP, on the network itself.
type Across struct {
	Here    netip.AddrPort   `json:"here"`              // on this host; zero: it is not asked
	Peers   []netip.AddrPort `json:"peers,omitempty"`   // on the others
	Subnets []netip.Prefix   `json:"subnets,omitempty"` // of the network
}

// Host is a container on a network. Its addresses are called by the first of its
// names.
type Host struct {
	Names     []string     `json:"names"`
	Addresses []netip.Addr `json:"addresses"`
}
