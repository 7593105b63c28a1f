package main

import (
	"errors"
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
		return said(err)
	}
	if newName == "" {
		newName = name
	}
	// The kernel drops the addresses, and may give a new index and, for a pattern, a
	// name of its own.
	return within(target, func(c *netlink.Conn) error {
		before, err := c.Links()
		if err != nil {
			return err
		}
		var r netlink.Request
		r.MoveLink(link.Index, target, newName)
		if err := host.Do(&r); err != nil {
			return said(err)
		}
		after, err := c.Links()
		if err != nil {
			return err
		}
		return furnishDevice(c, arrived(before, after), link.Index, addrs)
	})
}

// said takes the number of the message out of an error, which is always the first.
func said(err error) error {
	if e, ok := errors.AsType[*netlink.Error](err); ok {
		return e.Errno
	}
	return err
}

// within calls f on a thread of its own in a network namespace, with a connection
// to that.
func within(target int, f func(*netlink.Conn) error) error {
	done := make(chan error)
	ns.Go(func() {
		done <- func() error {
			if err := unix.Setns(target, unix.CLONE_NEWNET); err != nil {
				return sys.Error("setns", "network namespace", err)
			}
			c, err := netlink.Dial(unix.NETLINK_ROUTE)
			if err != nil {
				return err
			}
			defer c.Close()
			return f(c)
		}()
	})
	return <-done
}

// arrived returns the index of the link that has come between two lists; 0: none.
func arrived(before, after []netlink.Link) int {
	for _, l := range after {
		if !slices.ContainsFunc(before, func(o netlink.Link) bool { return o.Index == l.Index }) {
			return l.Index
		}
	}
	return 0
}

// furnishDevice gives the link of that index the addresses that it had, and turns it
// on.
func furnishDevice(c *netlink.Conn, index, oldIndex int, addrs []netlink.Addr) error {
	if index == 0 {
		return unix.ENODEV // it has gone already
	}
	var r netlink.Request
	for _, a := range addrs {
		if a.Index == oldIndex {
			r.AddAddr(index, a.Prefix)
		}
	}
	r.SetUp(index, "")
	return c.Do(&r)
}
