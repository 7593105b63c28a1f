package network

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/moby/moby/api/types/network"

	"lade/internal/iprange"
	"lade/internal/netrate"
	"lade/internal/network/cni"
	"lade/internal/network/gate"
	"lade/internal/network/ipam"
	"lade/internal/plugin"
	"lade/internal/store"
)

// Config says what New sets up. Bools have no default here: the daemon sets
// them (Docker's defaults are all true).
type Config struct {
	Store  *store.Store // networks and endpoints are recorded here
	Logger *slog.Logger

	Bridge      string       // name of the link: "docker0"
	BIP         netip.Prefix // its address; zero: as before, else the first of FixedCIDR, else a free default pool
	FixedCIDR   netip.Prefix // addresses of containers come from here; zero: the whole subnet
	Gateway     netip.Addr   // default route of containers; zero: the bridge
	MTU         int          // 0: 1500, or that of a bridge that is there
	ICC         bool         // containers may reach each other's unpublished ports
	IPMasq      bool         // what containers send outside gets the host's address
	IPForward   bool         // enable net.ipv4.ip_forward
	DefaultBind netip.Addr   // host address of ports that name none; zero: 0.0.0.0

	IPv6       bool         // the default bridge has IPv6, too
	BIP6       netip.Prefix // its address; zero: the first of FixedCIDR6, else as before, else of a free pool
	FixedCIDR6 netip.Prefix // addresses of containers come from here; zero: the whole subnet
	Gateway6   netip.Addr   // default route of containers; zero: the bridge

	// Without rules of a family nothing is translated or kept apart there, and
	// published ports are served by the gate, from the host's own address.
	NoRules4, NoRules6 bool
	// NoProxy keeps the gate from what is not published by PolicyGate: ::1, IPv6
	// addresses that lead to IPv4, and all ports of families without rules.
	NoProxy bool

	// Direct also opens published ports at the containers' own addresses, for who
	// has a route there.
	Direct bool
	// Accept are the marks of packets that pass to and from every network whatever
	// the rules say; zero: of none.
	Accept Mark

	Limits netrate.Limits // of containers on the default bridge that ask for none

	Pools []ipam.Pool // of new networks' subnets; none: Docker's defaults

	// Lookup asks for the addresses of an overlay network's hosts; nil: the
	// resolver of this host. It may be called by several goroutines.
	Lookup      func(ctx context.Context, host string) ([]netip.Addr, error)
	LookupEvery time.Duration // how often; 0: ten seconds

	PublishPolicy string       // of ports for which neither they nor their network say one; "": dnat
	Gate          gate.Options // the program that serves gated ports; no Binary: there are none

	Plugins plugin.Dirs // where network drivers are that are programs of their own
	CNI     cni.Dirs

	PoolSize int  // prepared namespaces; 0: 16, negative: none
	Disabled bool // no default bridge (--bridge=none): only host and none
}

// Publish makes a container's port reachable through an address of the host.
type Publish struct {
	Proto    string // tcp, udp or sctp
	Port     uint16 // in the container
	HostIP   netip.Addr
	HostPort uint16 // 0: one of net.ipv4.ip_local_port_range
	// HostPortEnd, when greater than HostPort, lets the engine take the first
	// free port from HostPort to HostPortEnd.
	HostPortEnd uint16
	Policy      string          `json:",omitempty"` // PolicyDNAT, PolicyGate; "": as the network has it
	From        []iprange.Range `json:",omitempty"` // who may connect; nil: everybody
}

// Request asks for a container's connection.
type Request struct {
	ContainerID string
	Name        string // of the container, without slash: for messages and Inspect
	Network     string // name or id: bridge (also "" and "default"), host, none, or one that was created
	MAC         net.HardwareAddr
	IPv4, IPv6  netip.Addr        // zero: one of Again, or the next free one
	Again       []netip.Addr      // had before: taken again if nobody has them
	LinkLocal   []netip.Addr      // further addresses, of the link only
	Interface   string            // its name in the container; "": the first of eth0, eth1, … that is free
	Priority    int               // of several networks the one with the highest has the default route
	Aliases     []string          // names in this network beside the container's own and its short id
	Links       []string          // "container:alias": names that only this container knows
	Sysctls     map[string]string // net.*, written inside the namespace
	Rates       netrate.Asked     // what it does not say is as the network has it
	// Ports are published, whichever networks the container is connected to, at
	// its address where its default route is.
	Ports []Publish
	// NetNS is, for Connect, a fresh namespace to connect instead of one of our
	// own making, such as one that belongs to a user namespace; for Attach the one
	// in which the container is. It stays the caller's and is not used again for
	// another container.
	NetNS *os.File
}

// Endpoint is a container's connection to a network.
type Endpoint struct {
	NetworkID   string
	NetworkName string
	Driver      string // of the network
	EndpointID  string
	SandboxID   string
	Interface   string           // in the container
	MAC         net.HardwareAddr // nil without an interface
	IPv4, IPv6  netip.Prefix     // address and length; zero without one
	// Gateway and Gateway6 are the network's; the container has a route through
	// them if it has none of higher priority.
	Gateway, Gateway6 netip.Addr
	Aliases           []string
	Ports             network.PortMap // what was bound, on whichever network; empty, not nil, without ports
	Published         []Published     // the same, with how
	Limits            netrate.Limits  // what holds
	// NetNS is the namespace for the container's processes, set by Connect
	// only, and nil for host. The caller closes it: the namespace, and the
	// interface in it, die with their last process and descriptor.
	NetNS *os.File
}

// Published is a port of the host that leads to a container.
type Published struct {
	HostIP   netip.Addr
	HostPort uint16
	Proto    string
	Port     uint16          // in the container
	Policy   string          // PolicyDNAT or PolicyGate
	From     []iprange.Range // who may connect; nil: everybody
}

// Member is a container in a network, as other containers there know it.
type Member struct {
	ContainerID string
	Name        string   // of the container
	Aliases     []string // names in this network only
	Links       []string // "container:alias": names that only this container knows
	IPv4, IPv6  netip.Addr
}

// Counters are an interface's statistics, as the container sees them.
type Counters struct {
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}
