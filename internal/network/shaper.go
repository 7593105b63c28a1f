package network

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/netlink"
	"lade/internal/linux/tc"
	"lade/internal/netrate"
	"lade/internal/trace"
)

// shaper limits what links carry, in the kernel alone: which limits a container is
// to have, Networks knows (Limit). mu is held while those of any link change;
// Networks takes it, too, and before books.mu, while it brings a record and the
// kernel to the same limits.
type shaper struct {
	rt  *netlink.Conn
	log *slog.Logger
	mu  sync.Mutex
}

// Queue sizes. A bucket holds what passes in burstTime, so that a busy
// machine's late timers take nothing from the rate, and in any case what lets a
// TCP connection begin without loss (10 packets); a queue keeps what comes in
// queueTime, and in any case what a connection has under way before it finds
// out how fast it may be. Measured: docs/adr/0014.
const (
	burstTime  = 4 // ms
	leastBurst = 16 << 10
	queueTime  = 50 // ms
	leastQueue = 256 << 10
	mostQueue  = 1 << 30
)

// bucket returns the queueing discipline for a rate.
func bucket(rate netrate.Bits, burst int64, mtu int) tc.TBF {
	during := func(ms uint64) uint64 { return rate.Bytes() * ms / 1000 }
	return tc.TBF{
		Rate:  rate.Bytes(),
		Burst: uint32(cmp.Or(uint64(burst), max(during(burstTime), leastBurst, uint64(mtu+netrate.FrameHeader)))),
		Limit: uint32(min(max(during(queueTime), leastQueue), mostQueue)),
	}
}

// set brings both directions of a link to limits, whatever held before. What
// a container receives is what the host's end sends. What it sends is received
// by the host's end and led through an ifb before anything else sees it: so
// neither direction is in the container's reach, whatever it may do in its
// namespace (docs/adr/0014). Errors: ENODEV when the link is gone.
func (s *shaper) set(e *endpointRecord, l netrate.Limits) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.setLocked(e, l)
}

func (s *shaper) setLocked(e *endpointRecord, l netrate.Limits) error {
	span := trace.Begin(trace.Net, "limit", e.Link)
	host, err := s.rt.LinkState(0, e.Link)
	if err == nil {
		err = errors.Join(s.setIn(host, l), s.setOut(host, l))
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		err = errdefs.NotImplementedf("network rates need a kernel with sch_tbf, sch_ingress, cls_u32, act_mirred and ifb: %w", err)
	}
	return span.End(err)
}

func (s *shaper) setIn(host netlink.Link, l netrate.Limits) error {
	var r netlink.Request
	switch {
	case l.In != 0:
		tc.ReplaceTBF(&r, host.Index, bucket(l.In, l.Burst, host.MTU))
	case host.Qdisc == "tbf":
		tc.DelRoot(&r, host.Index)
	}
	return s.rt.Do(&r)
}

func (s *shaper) setOut(host netlink.Link, l netrate.Limits) error {
	if l.Out == 0 {
		return s.undoRedirect(ifbOf(host.Name), host.Index)
	}
	return s.redirect(ifbOf(host.Name), host.Index, bucket(l.Out, l.Burst, host.MTU))
}

// redirect makes what a link receives pass through an ifb, which is made unless it
// is there. It is bounded before the first packet comes.
func (s *shaper) redirect(ifb string, link int, t tc.TBF) error {
	var r netlink.Request
	r.AddIFB(ifb)
	if err := s.rt.Do(&r); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	i, err := s.rt.LinkState(0, ifb)
	if err != nil {
		return err
	}
	r.Reset()
	tc.ReplaceTBF(&r, i.Index, t)
	r.SetUp(i.Index, "")
	tc.AddIngress(&r, link)
	if err := s.rt.Do(&r); err != nil {
		return err
	}
	r.Reset()
	tc.Redirect(&r, link, i.Index)
	if err := s.rt.Do(&r); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// undoRedirect undoes redirect, if there is anything to undo.
func (s *shaper) undoRedirect(ifb string, link int) error {
	i, err := s.rt.LinkState(0, ifb)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return err
	}
	var r netlink.Request
	tc.DelIngress(&r, link)
	if err := s.rt.Do(&r); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return delLink(s.rt, i)
}

// setChangedLocked brings the links of c to its limits, except those that are as in was.
func (s *shaper) setChangedLocked(c, was *containerRecord) error {
	for i, e := range c.Endpoints {
		if e != was.Endpoints[i] {
			if err := s.setLocked(e, e.Limits); err != nil {
				return err
			}
		}
	}
	return nil
}

// clear removes the ifb of a link that goes away; all else goes with the link.
// Whoever still is in its namespace sends nothing any more. The kernel waits for
// an RCU grace period, 10 ms and more, in which nobody else need wait.
func (s *shaper) clear(link string) {
	s.mu.Lock() // reshape may be about to make it
	i, err := s.rt.LinkState(0, ifbOf(link))
	s.mu.Unlock()
	if err == nil {
		err = delLink(s.rt, i)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		s.log.Warn("cannot remove a network interface", "link", ifbOf(link), "error", err)
	}
}

// Shaped are the limits of one direction and what became of the packets.
type Shaped struct {
	Rate       netrate.Bits
	Burst      int64  // bytes
	Backlog    uint64 // bytes that wait
	Dropped    uint64 // packets
	Overlimits uint64 // how often a packet had to wait
}

func (s *shaper) read(link string, rate netrate.Bits, burst int64) (*Shaped, error) {
	l, err := s.rt.LinkState(0, link)
	var q tc.Qdisc
	if err == nil {
		q, err = tc.Root(s.rt, l.Index)
	}
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) { // the container has just ended
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("queueing discipline of %s: %w", link, err)
	}
	return &Shaped{
		Rate: rate, Burst: int64(bucket(rate, burst, l.MTU).Burst),
		Backlog: uint64(q.Backlog), Dropped: uint64(q.Dropped), Overlimits: uint64(q.Overlimits),
	}, nil
}
