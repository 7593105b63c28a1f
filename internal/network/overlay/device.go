package overlay

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/ids"
	"lade/internal/linux/netlink"
	"lade/internal/trace"
)

// Config is an overlay network as this host takes part in it. It does not change
// as long as the network exists, and is recorded.
type Config struct {
	Peers     []string   `json:"peers"` // addresses and names of hosts
	VNI       uint32     `json:"vni"`
	Port      uint16     `json:"port"`  // of UDP
	Local     netip.Addr `json:"local"` // this host's address
	MTU       int        `json:"mtu"`   // of the network
	Encrypted bool       `json:"encrypted,omitempty"`
	Key       string     `json:"key,omitempty"` // file
}

// DeviceName returns the name of the VXLAN device of the network with an id.
func DeviceName(id string) string { return "vx-" + ids.Truncate(id) }

// Join makes the device of a network, or corrects what differs, and makes it a
// port of the bridge with an index. Its peers stay. Errors: Conflict when VNI or
// port are another program's, NotImplemented on a kernel without VXLAN.
func (c Config) Join(rt *netlink.Conn, device string, bridge int) error {
	want := netlink.VXLAN{VNI: c.VNI, Port: c.Port, Local: c.Local}
	l, is, err := rt.VXLAN(device)
	if err == nil && is != want {
		if err := Remove(rt, device); err != nil {
			return err
		}
		err = unix.ENODEV
	}
	if errors.Is(err, unix.ENODEV) {
		if err := c.create(rt, device, want); err != nil {
			return err
		}
		l, _, err = rt.VXLAN(device)
	}
	if err != nil {
		return err
	}
	var r netlink.Request
	if l.MTU != c.MTU {
		r.SetMTU(l.Index, c.MTU)
	}
	if l.Master != bridge || !l.Up {
		r.AddPort(l.Index, "", bridge)
	}
	if r.Messages() == 0 {
		return nil
	}
	err = trace.Begin(trace.Net, "attach", device).End(rt.Do(&r))
	if errors.Is(err, unix.EADDRINUSE) {
		return errdefs.Conflictf("UDP port %d is another program's on this host", c.Port)
	}
	if err != nil {
		return fmt.Errorf("configure VXLAN device %s: %w", device, err)
	}
	return nil
}

func (c Config) create(rt *netlink.Conn, device string, v netlink.VXLAN) error {
	var r netlink.Request
	r.AddVXLAN(device, c.MTU, v)
	err := trace.Begin(trace.Net, "create vxlan", device).End(rt.Do(&r))
	switch {
	case errors.Is(err, unix.EEXIST):
		return errdefs.Conflictf("VNI %d is another VXLAN device's on UDP port %d of this host: give the network another one with --opt vni=", c.VNI, c.Port)
	case errors.Is(err, unix.EOPNOTSUPP):
		return errdefs.NotImplementedf("the kernel has no VXLAN devices (CONFIG_VXLAN)")
	case err != nil:
		return fmt.Errorf("create VXLAN device %s: %w", device, err)
	}
	// A kernel without IPv6 has nothing to keep away.
	r.Reset()
	r.NoIPv6(device)
	if err := rt.Do(&r); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
		return errors.Join(fmt.Errorf("configure VXLAN device %s: %w", device, err), Remove(rt, device))
	}
	return nil
}

// Remove removes a device; one that is gone is no error.
func Remove(rt *netlink.Conn, device string) error {
	l, err := rt.LinkState(0, device)
	if err == nil {
		var r netlink.Request
		r.DelLink(l.Index)
		err = trace.Begin(trace.Net, "delete link", device).End(rt.Do(&r))
	}
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// everywhere is the hardware address of the entries for frames of which nothing
// is known.
var everywhere = make([]byte, 6)

// Meet makes hosts the peers of a device, and forgets what was learned from those
// that are no more. It reports whether anything changed.
func Meet(rt *netlink.Conn, device string, hosts []netip.Addr) (changed bool, err error) {
	l, err := rt.LinkState(0, device)
	if err != nil {
		return false, err
	}
	now, err := rt.Forwards(l.Index)
	if err != nil {
		return false, err
	}
	var gone, come netlink.Request
	for _, f := range now {
		if !slices.Contains(hosts, f.To) {
			gone.DelForward(l.Index, f)
		}
	}
	for _, h := range hosts {
		is := func(f netlink.Forward) bool { return f.To == h && bytes.Equal(f.MAC, everywhere) }
		if !slices.ContainsFunc(now, is) {
			come.SetForward(l.Index, netlink.Forward{MAC: everywhere, To: h})
		}
	}
	if gone.Messages()+come.Messages() == 0 {
		return false, nil
	}
	span := trace.Begin(trace.Net, "peers", device)
	if gone.Messages() > 0 {
		err = rt.Do(&gone)
	}
	if errors.Is(err, unix.ENOENT) { // what was learned has just been forgotten
		err = nil
	}
	if come.Messages() > 0 {
		err = errors.Join(err, rt.Do(&come))
	}
	return true, span.End(err)
}
