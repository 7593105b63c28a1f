package network

import (
	"encoding/json"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/network"

	"lade/internal/netrate"
	"lade/internal/store"
)

// The buckets of our records. A network's key is its name, an endpoint's the
// container's id.
const (
	networkBucket  store.Bucket = "network"
	endpointBucket store.Bucket = "endpoint"
)

// networkRecord is what must not change as long as a network exists.
type networkRecord struct {
	ID      string       `json:"id"`
	Created time.Time    `json:"created"`
	BIP     netip.Prefix `json:"bip,omitzero"`   // bridge only
	Made    bool         `json:"made,omitempty"` // bridge only: it was not there before
}

// endpointRecord is all that is known of a container's connection.
type endpointRecord struct {
	ID      string       `json:"id"`
	Sandbox string       `json:"sandbox"`
	Name    string       `json:"name"`    // of the container
	Network string       `json:"network"` // name
	Link    string       `json:"link,omitempty"`
	MAC     string       `json:"mac,omitempty"`
	IPv4    netip.Prefix `json:"ipv4,omitzero"`
	Ports   []binding    `json:"ports,omitempty"`
	// Noise is what eth0 had heard before this container.
	Noise  Counters       `json:"noise,omitzero"`
	Limits netrate.Limits `json:"limits,omitzero"`
}

func (r *endpointRecord) put(s *store.Store, container string) error {
	v, err := json.Marshal(r)
	if err != nil {
		return err
	}
	var b store.Batch
	b.Put(endpointBucket, container, v)
	return s.Append(&b)
}

func (r *endpointRecord) mac() net.HardwareAddr {
	mac, err := net.ParseMAC(r.MAC)
	if err != nil {
		return nil
	}
	return mac
}

// elements returns the published ports as the firewall knows them.
func (r *endpointRecord) elements() map[hostPort]netip.AddrPort {
	m := make(map[hostPort]netip.AddrPort, len(r.Ports))
	for _, b := range r.Ports {
		m[b.host()] = netip.AddrPortFrom(r.IPv4.Addr(), b.Port)
	}
	return m
}

func (r *endpointRecord) hostPorts() []hostPort {
	return slices.Collect(maps.Keys(r.elements()))
}

// portMap returns the published ports as the API lists them.
func (r *endpointRecord) portMap() network.PortMap {
	m := network.PortMap{}
	for _, b := range r.Ports {
		if p, ok := network.PortFrom(b.Port, network.IPProtocol(b.Proto)); ok {
			m[p] = append(m[p], network.PortBinding{HostIP: b.HostIP, HostPort: strconv.Itoa(int(b.HostPort))})
		}
	}
	return m
}
