package cni

import (
	"encoding/json"
	"net/netip"

	"lade/internal/errdefs"
)

// Interface is what plugins have given a container.
type Interface struct {
	MAC               string
	IPv4, IPv6        netip.Prefix // zero: none
	Gateway, Gateway6 netip.Addr   // of a default route; zero: there is none
}

// result is what ADD returns.
type result struct {
	Interfaces []struct {
		Name, MAC, Sandbox string
	} `json:"interfaces"`
	IPs []struct {
		Interface *int         `json:"interface"`
		Address   netip.Prefix `json:"address"`
		Gateway   netip.Addr   `json:"gateway"`
	} `json:"ips"`
	Routes []struct {
		Dst netip.Prefix `json:"dst"`
		GW  netip.Addr   `json:"gw"`
	} `json:"routes"`
}

// Read returns what a result says of the interface with a name. Errors: Internal
// for one that cannot be understood.
func Read(raw json.RawMessage, name string) (Interface, error) {
	var r result
	if err := json.Unmarshal(raw, &r); err != nil {
		return Interface{}, errdefs.Internalf("the result of a CNI plugin cannot be read: %w", err)
	}
	var out Interface
	for _, i := range r.Interfaces {
		if i.Name == name && i.Sandbox != "" {
			out.MAC = i.MAC
		}
	}
	var via [2]netip.Addr // the gateways of the addresses, by family
	for _, ip := range r.IPs {
		if i := ip.Interface; i != nil && (*i < 0 || *i >= len(r.Interfaces) || r.Interfaces[*i].Name != name || r.Interfaces[*i].Sandbox == "") {
			continue // of another interface, such as a bridge
		}
		if ip.Address.Addr().Is4() && !out.IPv4.IsValid() {
			out.IPv4, via[0] = ip.Address, ip.Gateway
		} else if ip.Address.Addr().Is6() && !out.IPv6.IsValid() {
			out.IPv6, via[1] = ip.Address, ip.Gateway
		}
	}
	for _, rt := range r.Routes {
		if !rt.Dst.IsValid() || rt.Dst.Bits() > 0 {
			continue
		}
		switch six := rt.Dst.Addr().Is6(); {
		case six && rt.GW.IsValid():
			out.Gateway6 = rt.GW
		case six:
			out.Gateway6 = via[1]
		case rt.GW.IsValid():
			out.Gateway = rt.GW
		default:
			out.Gateway = via[0]
		}
	}
	return out, nil
}
