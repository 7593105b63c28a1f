package network

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/netlink"
)

// claimed makes sure that no other engine in this network namespace has a bridge
// of the same name: they would remove each other's rules and interfaces. The
// claim is a socket with a name in the abstract namespace, which belongs to the
// network namespace and goes with the process (unix(7)). One that somebody
// without privileges holds counts for nothing. The caller must Close it; it is
// nil where nothing could be claimed. Errors: Conflict.
func claimed(bridge string, log *slog.Logger) (*net.UnixListener, error) {
	name := &net.UnixAddr{Name: "@lade/bridge/" + bridge, Net: "unix"}
	l, err := net.ListenUnix("unix", name)
	if !errors.Is(err, unix.EADDRINUSE) {
		return l, err
	}
	c, err := net.DialUnix("unix", nil, name)
	if err != nil { // it has just ended
		return net.ListenUnix("unix", name)
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var peer *unix.Ucred
	var failure error
	err = raw.Control(func(fd uintptr) { peer, failure = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, failure); err != nil {
		return nil, err
	}
	if int(peer.Uid) != os.Geteuid() && peer.Uid != 0 {
		log.Warn("a program of somebody else has the name of our claim to the bridge", "bridge", bridge, "uid", peer.Uid, "pid", peer.Pid)
		return nil, nil
	}
	return nil, errdefs.Conflictf("the bridge %s belongs to another engine that runs (process %d): give this one another name (--bridge)", bridge, peer.Pid)
}

// crowded refuses a bridge that is not ours and in which somebody else's
// containers are, unless a part of its addresses was set apart for us
// (--fixed-cidr): two engines would give the same ones.
func (n *Networks) crowded(b *bridge) error {
	if n.c.FixedCIDR.IsValid() || n.madeBy(b.network) {
		return nil
	}
	bridge, err := n.rt.LinkState(0, b.link)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return err
	}
	links, err := n.rt.Links()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(links, func(l netlink.Link) bool {
		return l.Master == bridge.Index && l.Kind == "veth" && !strings.HasPrefix(l.Name, LinkPrefix(n.c.Bridge))
	})
	if i < 0 {
		return nil
	}
	return errdefs.Conflictf("the bridge %s is in use by another engine (%s is its port): give this one another name (--bridge), or a part of its addresses (--fixed-cidr)", b.link, links[i].Name)
}
