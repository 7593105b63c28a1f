package network

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/network/etc"
	"lade/internal/network/ipam"
	"lade/internal/trace"
)

// defaultMTU is Docker's.
const defaultMTU = 1500

// hardware returns the address that an interface with an IPv4 address gets:
// 02:42 and the four bytes, as in Docker before version 28. A neighbour's entry
// for the address then stays true when another container gets it.
func hardware(ip netip.Addr) net.HardwareAddr {
	b := ip.As4()
	return net.HardwareAddr{0x02, 0x42, b[0], b[1], b[2], b[3]}
}

// checkBridge refuses a name that the kernel would.
func checkBridge(name string) error {
	if name == "" || len(name) >= unix.IFNAMSIZ || strings.ContainsAny(name, "/ \t\n%:") || name == "." || name == ".." {
		return errdefs.Invalidf("invalid bridge name %q", name)
	}
	return nil
}

// choose returns the bridge's address: as configured, as it is, as it was, or
// from the first default pool that collides with nothing.
func choose(rt *netlink.Conn, c Config, was netip.Prefix) (netip.Prefix, error) {
	if c.BIP.IsValid() {
		if !c.BIP.Addr().Is4() || c.BIP.Addr() == c.BIP.Masked().Addr() || c.BIP.Addr() == ipam.Last(c.BIP) {
			return c.BIP, errdefs.Invalidf("invalid bridge address %s: want the address of a host in an IPv4 subnet", c.BIP)
		}
		return c.BIP, nil
	}
	bridge, err := rt.Link(0, c.Bridge)
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return netip.Prefix{}, err
	}
	addrs, err := rt.Addrs()
	if err != nil {
		return netip.Prefix{}, err
	}
	routes, err := rt.Routes()
	if err != nil {
		return netip.Prefix{}, err
	}
	var taken []netip.Prefix
	for _, a := range addrs {
		if bridge.Index != 0 && a.Index == bridge.Index {
			return a.Prefix, nil
		}
		taken = append(taken, a.Prefix.Masked())
	}
	for _, r := range routes {
		if r.Dst.Bits() > 0 && (bridge.Index == 0 || r.Index != bridge.Index) {
			taken = append(taken, r.Dst)
		}
	}
	for _, s := range etc.Nameservers(etc.Host()) {
		if s.Is4() {
			taken = append(taken, netip.PrefixFrom(s, s.BitLen()))
		}
	}
	if was.IsValid() && !slices.ContainsFunc(taken, was.Overlaps) {
		return was, nil
	}
	subnet, err := ipam.Choose(taken)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(subnet.Addr().Next(), subnet.Bits()), nil
}

// makeBridge creates the bridge or corrects what differs, and returns it. mtu 0
// means Docker's default for a new bridge, and its own for one that is there.
// The address that we gave it before (was) goes, if it is not the same; any
// other is the administrator's.
func makeBridge(rt *netlink.Conn, name string, ip, was netip.Prefix, mtu int) (link netlink.Link, made bool, err error) {
	var r netlink.Request
	link, err = rt.Link(0, name)
	switch {
	case errors.Is(err, unix.ENODEV):
		r.AddBridge(name, hardware(ip.Addr()), cmp.Or(mtu, defaultMTU))
		if err := trace.Begin(trace.Net, "create bridge", name).End(rt.Do(&r)); err != nil && !errors.Is(err, unix.EEXIST) {
			return link, false, fmt.Errorf("create bridge %s: %w", name, err)
		}
		made = true
		if link, err = rt.Link(0, name); err != nil {
			return link, made, err
		}
	case err != nil:
		return link, false, err
	case link.Kind != "bridge":
		return link, false, errdefs.Invalidf("existing interface %s is not a bridge", name)
	}
	r.Reset()
	if !link.Up {
		r.SetUp(link.Index, "")
	}
	if mtu != 0 && link.MTU != mtu {
		r.SetMTU(link.Index, mtu)
		link.MTU = mtu
	}
	addrs, err := rt.Addrs()
	if err != nil {
		return link, made, err
	}
	has := false
	for _, a := range addrs {
		switch {
		case a.Index != link.Index:
		case a.Prefix == ip:
			has = true
		case a.Prefix == was:
			r.DelAddr(link.Index, a.Prefix)
		}
	}
	if !has {
		r.AddAddr(link.Index, ip)
	}
	if r.Messages() == 0 {
		return link, made, nil
	}
	if err := trace.Begin(trace.Net, "configure bridge", name).End(rt.Do(&r)); err != nil {
		return link, made, fmt.Errorf("configure bridge %s: %w", name, err)
	}
	return link, made, nil
}

// setHost writes the parameters of the host that the bridge needs.
func setHost(c Config) error {
	// Packets from 127.0.0.1 may leave by the bridge, translated; the chain
	// "raw" keeps such addresses from coming in.
	if err := netns.Sysctl("net/ipv4/conf/"+c.Bridge+"/route_localnet", "1"); err != nil {
		return err
	}
	if !c.IPForward {
		return nil
	}
	return trace.Begin(trace.Net, "sysctl", "net.ipv4.ip_forward").End(netns.Sysctl("net/ipv4/ip_forward", "1"))
}
