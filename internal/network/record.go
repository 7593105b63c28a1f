package network

import (
	"cmp"
	"encoding/json"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/network"

	"lade/internal/netrate"
	"lade/internal/network/cni"
	"lade/internal/network/overlay"
	"lade/internal/store"
)

// The buckets of our records. A network's key is its name, that of a container's
// endpoints its id.
const (
	networkBucket  store.Bucket = "network"
	endpointBucket store.Bucket = "endpoint"
)

// networkRecord is what must not change as long as a network exists.
type networkRecord struct {
	ID      string       `json:"id"`
	Created time.Time    `json:"created"`
	BIP     netip.Prefix `json:"bip,omitzero"`   // bridge only
	BIP6    netip.Prefix `json:"bip6,omitzero"`  // of the bridge, if it has IPv6
	Made    bool         `json:"made,omitempty"` // the bridge was not there before
	User    *userNetwork `json:"user,omitempty"` // nil: predefined
}

// userNetwork is a network as its creator asked for it, completed with what was
// left to us. It is not changed.
type userNetwork struct {
	Driver      string               `json:"driver"`
	Options     map[string]string    `json:"options,omitempty"`
	Labels      map[string]string    `json:"labels,omitempty"`
	IPAMOptions map[string]string    `json:"ipam_options,omitempty"`
	Pools       []network.IPAMConfig `json:"pools"`                 // in the order in which addresses are taken from them
	IPAMDriver  string               `json:"ipam_driver,omitempty"` // name of an address plugin; "": our own books
	Granted     *granted             `json:"granted,omitempty"`     // what that gave; nil of a configuration
	Internal    bool                 `json:"internal,omitempty"`
	CNI         *cni.Conf            `json:"cni,omitempty"`     // likewise
	Overlay     *overlay.Config      `json:"overlay,omitempty"` // of a network of this driver
	Attachable  bool                 `json:"attachable,omitempty"`
	Held        *held                `json:"held,omitempty"` // it only holds a configuration, with pools as they were given
	From        string               `json:"from,omitempty"` // name of the network whose configuration it has
}

// held is what a configuration says of the families.
type held struct {
	IPv4 bool `json:"ipv4,omitempty"`
	IPv6 bool `json:"ipv6,omitempty"`
}

func putNetwork(b *store.Batch, name string, r networkRecord) error {
	v, err := json.Marshal(r)
	if err != nil {
		return err
	}
	b.Put(networkBucket, name, v)
	return nil
}

// containerRecord is all that is known of a container's connections. One that
// others can see is replaced, never changed, nor what it points to.
type containerRecord struct {
	Sandbox   string            `json:"sandbox"`
	Name      string            `json:"name"`                // of the container
	Endpoints []*endpointRecord `json:"endpoints"`           // in the order in which they came
	Asked     []Publish         `json:"asked,omitempty"`     // ports to publish
	Ports     []binding         `json:"published,omitempty"` // what was bound for them
}

// endpointRecord is a container's connection to one network.
type endpointRecord struct {
	ID        string       `json:"id"`
	Network   string       `json:"network"` // name
	Link      string       `json:"link,omitempty"`
	Inside    string       `json:"inside,omitempty"` // the interface in the container
	MAC       string       `json:"mac,omitempty"`
	IPv4      netip.Prefix `json:"ipv4,omitzero"`
	IPv6      netip.Prefix `json:"ipv6,omitzero"`
	LinkLocal []netip.Addr `json:"link_local,omitempty"`
	Aliases   []string     `json:"aliases,omitempty"`
	Links     []string     `json:"links,omitempty"`
	Priority  int          `json:"priority,omitempty"`
	// Noise is what the interface had heard before this container.
	Noise  Counters       `json:"noise,omitzero"`
	Limits netrate.Limits `json:"limits,omitzero"`
	// Sysctls are those that were asked for with the endpoint.
	Sysctls map[string]string `json:"sysctls,omitempty"`
	// Kind is that of an interface without an end in the host (see children), and
	// NSID the number of its namespace there.
	Kind string `json:"kind,omitempty"`
	NSID int    `json:"nsid,omitempty"`
	// Maker is the driver of an interface that another program made, and Via its
	// gateways, by family.
	Maker string        `json:"maker,omitempty"`
	Via   [2]netip.Addr `json:"via,omitzero"`
}

func (c *containerRecord) put(s *store.Store, container string) error {
	v, err := json.Marshal(c)
	if err != nil {
		return err
	}
	var b store.Batch
	b.Put(endpointBucket, container, v)
	return s.Append(&b)
}

// clone returns a copy whose lists may be changed.
func (c *containerRecord) clone() *containerRecord {
	out := *c
	out.Endpoints, out.Ports = slices.Clone(c.Endpoints), slices.Clone(c.Ports)
	return &out
}

// in returns the endpoint in a network, or nil.
func (c *containerRecord) in(network string) *endpointRecord {
	for _, e := range c.Endpoints {
		if e.Network == network {
			return e
		}
	}
	return nil
}

// replace puts e in the place of the endpoint in the same network.
func (c *containerRecord) replace(e *endpointRecord) {
	for i, old := range c.Endpoints {
		if old.Network == e.Network {
			c.Endpoints[i] = e
		}
	}
}

func (r *endpointRecord) mac() net.HardwareAddr {
	mac, err := net.ParseMAC(r.MAC)
	if err != nil {
		return nil
	}
	return mac
}

// addr returns the address of a family.
func (r *endpointRecord) addr(six bool) netip.Addr {
	if six {
		return r.IPv6.Addr()
	}
	return r.IPv4.Addr()
}

// portMap returns the published ports as the API lists them.
func (c *containerRecord) portMap() network.PortMap {
	m := network.PortMap{}
	for _, b := range c.Ports {
		if p, ok := network.PortFrom(b.Port, network.IPProtocol(b.Proto)); ok {
			m[p] = append(m[p], network.PortBinding{HostIP: b.HostIP, HostPort: strconv.Itoa(int(b.HostPort))})
		}
	}
	return m
}

// published returns them with the policy of each.
func (c *containerRecord) published() []Published {
	out := make([]Published, len(c.Ports))
	for i, b := range c.Ports {
		out[i] = Published{b.HostIP, b.HostPort, b.Proto, b.Port, cmp.Or(b.Policy, PolicyDNAT), b.From}
	}
	return out
}
