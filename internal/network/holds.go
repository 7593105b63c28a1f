package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/network/cni"
	"lade/internal/network/remote"
	"lade/internal/plugin"
	"lade/internal/store"
)

// holdBucket has what other programs hold for endpoints, by endpoint.
const holdBucket store.Bucket = "foreign"

// holds are what other programs have made for the endpoints of foreign networks. A
// hold is recorded before the program is asked, and erased after it has taken its
// work back, so that a crash in between leaves nothing with it.
//
// There is no state but the records: methods may be called at any time, for one
// endpoint one after the other, and wait for the program, pluginPatience for each
// answer at most.
type holds struct {
	store   *store.Store
	plugins plugin.Dirs
	cni     cni.Dirs
	log     *slog.Logger
}

// hold is what another program has for an endpoint: all that is needed to ask it
// to give that back, also when configuration and network are gone.
type hold struct {
	Endpoint  string `json:"endpoint"`
	NetworkID string `json:"network_id"`
	Driver    string `json:"driver"`
	Inside    string `json:"inside"` // the interface in the container

	Link string `json:"link,omitempty"` // its name on the host, of a driver that is a plugin

	CNI    *cni.Conf       `json:"cni,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Ports  []cni.Port      `json:"ports,omitempty"`
	MAC    string          `json:"mac,omitempty"`
}

// all returns what is recorded.
func (hs holds) all() (out []*hold) {
	for id, v := range hs.store.Walk(holdBucket) {
		h := &hold{}
		if err := json.Unmarshal(v, h); err != nil {
			hs.log.Error("cannot read what a plugin holds", "endpoint", id, "error", err)
			continue
		}
		out = append(out, h)
	}
	return out
}

// note records what another program is about to hold, or holds.
func (hs holds) note(h *hold) error {
	v, err := json.Marshal(h)
	if err != nil {
		return err
	}
	var b store.Batch
	b.Put(holdBucket, h.Endpoint, v)
	return hs.store.Append(&b)
}

// forget erases what another program held.
func (hs holds) forget(h *hold) error {
	var b store.Batch
	b.Delete(holdBucket, h.Endpoint)
	return hs.store.Append(&b)
}

// giveBack asks another program to take back what it holds. If it cannot, it is
// asked again at the next start of the daemon, and when the network is removed.
func (hs holds) giveBack(h *hold, ns *os.File) {
	ctx, cancel := context.WithTimeout(context.Background(), pluginPatience)
	defer cancel()
	err := hs.askBack(ctx, h, ns)
	if err == nil {
		err = hs.forget(h)
	}
	if err != nil {
		hs.log.Warn("a plugin does not take back the interface of a container", "driver", h.Driver, "endpoint", h.Endpoint, "error", err)
	}
}

func (hs holds) askBack(ctx context.Context, h *hold, ns *os.File) error {
	if h.CNI != nil {
		return h.CNI.Del(ctx, hs.call(h, ns), h.Result)
	}
	if ns != nil && h.Link != "" {
		if err := h.bringHome(ns); err != nil {
			hs.log.Warn("an interface stays in its container", "driver", h.Driver, "interface", h.Inside, "error", err)
		}
	}
	d := remote.New(h.Driver, hs.plugins)
	defer d.Close()
	at := remote.Endpoint{NetworkID: h.NetworkID, EndpointID: h.Endpoint}
	return errors.Join(d.Leave(ctx, at), d.DeleteEndpoint(ctx, at))
}

// bringHome moves the interface that a driver made back to the host, where the
// driver looks for it.
func (h *hold) bringHome(ns *os.File) error {
	host, err := os.Open("/proc/thread-self/ns/net") // the main thread may be elsewhere
	if err != nil {
		return err
	}
	defer host.Close()
	return netns.Do(ns, func() error {
		c, err := netlink.Dial(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer c.Close()
		l, err := c.LinkState(0, h.Inside)
		if errors.Is(err, unix.ENODEV) {
			return nil
		}
		if err != nil {
			return err
		}
		var r netlink.Request
		r.MoveLink(l.Index, int(host.Fd()), h.Link)
		return c.Do(&r)
	})
}

// part asks the program that made an endpoint's interface to take it back; ns is
// where the interface is, or nil when that is gone.
func (hs holds) part(e *endpointRecord, ns *os.File) {
	if e.Maker == "" {
		return
	}
	v, ok := hs.store.Get(holdBucket, e.ID)
	if !ok {
		return
	}
	h := &hold{}
	if err := json.Unmarshal(v, h); err != nil {
		hs.log.Error("cannot read what a plugin holds", "endpoint", e.ID, "error", err)
		return
	}
	hs.giveBack(h, ns)
}

// partAll is part for a container that ended. l is what it has of this process,
// or nil.
func (hs holds) partAll(c *containerRecord, l *lease) {
	for _, e := range c.Endpoints {
		if l != nil {
			hs.part(e, l.slot.ns)
		} else {
			hs.part(e, nil)
		}
	}
}

// call is what CNI's plugins are asked about. The container's id is that of the
// endpoint: another start is another one, so that what is given back late is not
// what somebody has got meanwhile.
func (hs holds) call(h *hold, ns *os.File) cni.Call {
	c := cni.Call{Bin: hs.cni.Bin, ContainerID: h.Endpoint, Interface: h.Inside, Ports: h.Ports, MAC: h.MAC}
	if ns != nil {
		c.NetNS = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd())
	}
	return c
}
