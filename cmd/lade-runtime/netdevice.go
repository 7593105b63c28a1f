package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/netlink"
	"lade/internal/linux/ns"
	"lade/internal/linux/sys"
)

// checkDevices refuses names that no network device can have:
// Documentation/networking/netdevices.rst, dev_valid_name.
func checkDevices(l *specs.Linux) error {
	for name, d := range l.NetDevices {
		for _, n := range []string{name, d.Name} {
			if len(n) >= unix.IFNAMSIZ || n == "." || n == ".." || strings.ContainsAny(n, "/: \t\n\x00") {
				return errdefs.Invalidf("invalid network device name %q", n)
			}
		}
		if name == "" {
			return errdefs.Invalidf("a network device needs a name")
		}
	}
	return nil
}

// moveDevices moves network devices of the caller's network namespace into that
// of process pid, with their permanent global addresses, and sets them up.
// Source: OCI runtime-spec, config-linux.md, "Network Devices".
func moveDevices(devices map[string]specs.LinuxNetDevice, pid int) error {
	if len(devices) == 0 {
		return nil
	}
	same, err := ns.Same(pid, unix.CLONE_NEWNET)
	if err != nil {
		return err
	}
	if same {
		return errdefs.Invalidf("unable to move network devices without a private NET namespace")
	}
	target, err := ns.Open(pid, unix.CLONE_NEWNET)
	if err != nil {
		return err
	}
	defer sys.CloseAll(target)
	host, err := netlink.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer host.Close()
	addrs, err := host.GlobalAddrs()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		if err := moveDevice(host, target, name, devices[name].Name, addrs); err != nil {
			return fmt.Errorf("move network device %q: %w", name, err)
		}
	}
	return nil
}

func moveDevice(host *netlink.Conn, target int, name, newName string, addrs []netlink.Addr) error {
	link, err := host.Link(0, name)
	if err != nil {
		return err
	}
	if newName == "" {
		newName = name
	}
	var r netlink.Request
	r.MoveLink(link.Index, target, newName)
	if err := host.Do(&r); err != nil {
		return err
	}
	// The kernel has dropped the addresses, and may have given a new index.
	done := make(chan error)
	ns.Go(func() { done <- furnishDevice(target, newName, link.Index, addrs) })
	return <-done
}

// furnishDevice runs on a thread of its own.
func furnishDevice(target int, name string, oldIndex int, addrs []netlink.Addr) error {
	if err := unix.Setns(target, unix.CLONE_NEWNET); err != nil {
		return sys.Error("setns", "network namespace", err)
	}
	c, err := netlink.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer c.Close()
	link, err := c.Link(0, name)
	if err != nil {
		return err
	}
	var r netlink.Request
	for _, a := range addrs {
		if a.Index == oldIndex {
			r.AddAddr(link.Index, a.Prefix)
		}
	}
	r.SetUp(link.Index, "")
	return c.Do(&r)
}
