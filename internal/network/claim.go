package network

import (
	"errors"
	"log/slog"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/netlink"
	"lade/internal/linux/nft"
)

// claimed makes sure that no other engine in this network namespace has a bridge
// of the same name: they would remove each other's rules and interfaces. The
// claim is an empty table with an owner, which goes with the process, however
// that ends, and which nobody without CAP_NET_ADMIN here can hold: no container
// in the host's network namespace, for one. The caller must Close it; it is nil
// where nothing could be claimed. Errors: Conflict.
func claimed(bridge string, log *slog.Logger) (*nft.Conn, error) {
	c, err := nft.Dial()
	if err == nil {
		b := nft.NewBatch("claim_" + bridge)
		b.OwnTable()
		if err = c.Commit(b); err == nil {
			return c, nil
		}
		err = errors.Join(err, c.Close())
	}
	if errors.Is(err, unix.EPERM) {
		return nil, errdefs.Conflictf("the bridge %s belongs to another engine that runs: give this one another name (--bridge)", bridge)
	}
	// Without nftables; or somebody keeps a table of this name for ever.
	log.Warn("the bridge could not be claimed for this engine", "bridge", bridge, "error", err)
	return nil, nil
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
