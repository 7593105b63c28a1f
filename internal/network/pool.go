package network

import (
	"cmp"
	"context"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"log/slog"
	"net/netip"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/idmap"
	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/network/remote"
	"lade/internal/trace"
)

// inside is the name of a container's first interface.
const inside = "eth0"

// slot is a network namespace that lacks only its address.
type slot struct {
	ns      *os.File
	conn    *netlink.Conn  // works inside ns
	sockets *netns.Sockets // of ns
	link    string         // the end in the host; "": there is none
	inside  string         // the end in ns
	device  int            // its index
	routes  []remote.Route // beside those that we know of ourselves
	done    bool           // it has its addresses and routes already
	noise   Counters       // what eth0 heard before it was used again
}

// lingers reports whether the namespace may outlive its processes: sockets are
// left, of which one is ours.
func (s *slot) lingers() bool {
	if s.sockets == nil {
		return false
	}
	left, _, err := s.sockets.Count()
	return err != nil || left > 1
}

// close gives the slot up; the kernel removes namespace and links when no
// process is inside.
func (s *slot) close() {
	if s.conn != nil {
		s.conn.Close()
	}
	if s.sockets != nil {
		s.sockets.Close()
	}
	if s.ns != nil {
		s.ns.Close()
	}
}

// address gives the end in the container its hardware address and its
// addresses, and the default routes through the gateways that are valid.
func (s *slot) address(e *endpointRecord, gateways ...netip.Addr) error {
	var r netlink.Request
	if s.done {
		return nil
	}
	if e.Kind != "" {
		if err := s.appear(e); err != nil {
			return err
		}
	} else {
		r.SetMAC(s.device, e.mac())
		for _, p := range []netip.Prefix{e.IPv4, e.IPv6} {
			if p.IsValid() {
				r.AddAddr(s.device, p)
			}
		}
	}
	for _, ip := range e.LinkLocal {
		r.AddAddr(s.device, netip.PrefixFrom(ip, linkLocalBits(ip)))
	}
	for _, rt := range s.routes {
		r.AddRoute(s.device, rt.Destination, rt.NextHop)
	}
	for _, gw := range gateways {
		if gw.IsValid() {
			r.AddDefaultRoute(s.device, gw)
		}
	}
	span := trace.Begin(trace.Net, "address", cmp.Or(s.link, s.inside))
	err := s.conn.Do(&r)
	if err == nil && e.IPv6.IsValid() {
		err = settle6(s.conn, e.IPv6.Addr())
	}
	return span.End(err)
}

// settle6 returns when a new IPv6 address works: what is sent to it before is
// dropped, because the kernel makes it local in the background
// (addrconf_dad_work), some microseconds later or, on a busy machine, some
// milliseconds.
func settle6(c *netlink.Conn, ip netip.Addr) error {
	const tries, between = 100, time.Millisecond
	for range tries {
		rt, err := c.RouteTo(ip)
		if err == nil && rt.Type == unix.RTN_LOCAL {
			return nil
		}
		if err != nil && !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EHOSTUNREACH) {
			return err
		}
		<-time.After(between)
	}
	return nil // it is only late
}

// linkLocalBits is the length of link-local subnets (RFC 3927, RFC 4291 2.5.6).
func linkLocalBits(ip netip.Addr) int {
	if ip.Is4() {
		return 16
	}
	return 64
}

// workers is how many goroutines fill the pool: the kernel makes one interface
// at a time (rtnl_mutex), the second one overlaps the rest.
const workers = 2

// pool keeps slots ready.
type pool struct {
	log      *slog.Logger
	host     *netlink.Conn // in the host's namespace
	bridge   atomic.Int64  // index
	repair   func() error  // called when the bridge seems to be gone
	mtu      int
	isolated bool // containers may not reach each other over the bridge
	ipv6     bool // the kernel knows IPv6
	inet6    bool // the network has IPv6
	prefix   string
	counter  atomic.Uint32
	buffers  sync.Pool // of *[scratch]byte

	size   int             // how many slots are made ahead of time
	slots  chan *slot      // room for twice as many: those used again
	taken  chan struct{}   // wakes the workers
	ctx    context.Context // ends at close
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// scratch is the size of buffers for answers of netlink.
const scratch = 32 << 10

// LinkPrefix begins the names of the host ends of an engine: "veth" and 3
// characters for the bridge; 3 for the process and 5 for the link follow, 15
// in all, the most that a name may have.
func LinkPrefix(bridge string) string {
	h := fnv.New32a()
	h.Write([]byte(bridge))
	return linkKind + letters(h.Sum32())[:3]
}

// letters encodes a number as 7 lower case characters, the low bits first.
func letters(n uint32) string {
	b := binary.LittleEndian.AppendUint32(nil, n)
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}

// poolConfig is what the slots of a pool are like.
type poolConfig struct {
	prefix   string // begins the names of the host ends
	mtu      int
	isolated bool // containers may not reach each other over the bridge
	inet6    bool // the network has IPv6
	repair   func() error
}

// newPool describes a pool of slots in a bridge; start fills it.
func newPool(log *slog.Logger, bridge netlink.Link, c poolConfig) (*pool, error) {
	_, err := os.Stat("/proc/sys/net/ipv6")
	p := &pool{
		log: log, repair: c.repair, mtu: c.mtu, isolated: c.isolated, ipv6: err == nil, inet6: c.inet6, prefix: c.prefix,
		buffers: sync.Pool{New: func() any { return new([scratch]byte) }},
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.bridge.Store(int64(bridge.Index))
	if p.host, err = netlink.Dial(unix.NETLINK_ROUTE); err != nil {
		return nil, err
	}
	p.host.Buffer = make([]byte, scratch)
	return p, nil
}

// has reports whether a link was made by the pool.
func (p *pool) has(link string) bool { return strings.HasPrefix(link, p.prefix) }

// ownPrefix returns what begins the names of the links of this process. Those
// of earlier ones may be there still, of containers that run, or because the
// kernel takes namespaces down in the background: three characters at random
// do collide with them now and then.
func ownPrefix(engine string, links []netlink.Link, random func() uint32) string {
	for {
		p := engine + letters(random())[:3]
		if !slices.ContainsFunc(links, func(l netlink.Link) bool { return strings.HasPrefix(l.Name, p) }) {
			return p
		}
	}
}

// start lets goroutines keep size slots ready until close.
func (p *pool) start(size int) {
	if size <= 0 {
		return
	}
	p.size = size
	p.slots = make(chan *slot, 2*size)
	p.taken = make(chan struct{}, workers)
	for range min(workers, size) {
		p.wg.Go(p.fill)
	}
}

// Pauses of the workers: before the first slot, because the daemon is about to
// say that it is ready; and before each one while the pool is well stocked,
// because the start that took a slot should not wait for the kernel's locks.
const (
	settleIn = 50 * time.Millisecond
	rest     = 20 * time.Millisecond
)

// fill keeps the pool full, on a thread of its own.
func (p *pool) fill() {
	const first, most = 100 * time.Millisecond, 30 * time.Second
	failure := first
	pause := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-p.ctx.Done():
		}
	}
	pause(settleIn)
	thread, err := netns.Lock()
	if err != nil {
		p.log.Error("no network namespaces are prepared", "error", err)
		return
	}
	defer thread.Unlock()
	for p.ctx.Err() == nil {
		if len(p.slots) >= p.size {
			select {
			case <-p.taken:
				pause(rest) // it may come back meanwhile
			case <-p.ctx.Done():
			}
			continue
		}
		s, err := p.make(thread.New, inside)
		if thread.Lost() { // another one takes over
			if err == nil {
				s.close()
			}
			p.wg.Go(p.fill)
			return
		}
		if err != nil {
			p.log.Warn("cannot prepare a network namespace", "error", err, "again_in", failure)
			pause(failure)
			failure = min(2*failure, most)
			continue
		}
		failure = first
		p.put(s)
		if 4*len(p.slots) >= p.size {
			pause(rest)
		}
	}
}

// put makes a slot available, or gives it up when there are enough.
func (p *pool) put(s *slot) {
	select {
	case p.slots <- s:
	default:
		s.close()
		return
	}
	if p.ctx.Err() != nil {
		p.drain()
	}
}

// take returns a slot: a prepared one if there is, else a new one.
func (p *pool) take() (*slot, error) {
	select {
	case s := <-p.slots:
		if len(p.slots) < p.size {
			select {
			case p.taken <- struct{}{}:
			default: // all workers know
			}
		}
		return s, nil
	default:
		return p.make(netns.New, inside)
	}
}

// close ends the goroutines and gives the slots up.
func (p *pool) close() {
	p.cancel()
	p.wg.Wait()
	p.drain()
	p.host.Close()
}

func (p *pool) drain() {
	for {
		select {
		case s := <-p.slots:
			s.close()
		default:
			return
		}
	}
}

// inNew makes a namespace and runs f inside of it: netns.New.
type inNew func(f func(ns *os.File) error) (*os.File, error)

// make prepares a namespace with an interface, whose other end is a port of the
// bridge. When that fails because the bridge is gone, it is made anew.
func (p *pool) make(unshare inNew, name string) (*slot, error) {
	return p.again(func() (*slot, error) { return p.try(unshare, name, true) })
}

// add makes a further interface in a namespace that is in use.
func (p *pool) add(ns *os.File, name string) (*slot, error) {
	return p.again(func() (*slot, error) { return p.try(madeIn(ns), name, false) })
}

// again tries once more with a bridge that is made anew.
func (p *pool) again(try func() (*slot, error)) (*slot, error) {
	s, err := try()
	if !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EINVAL) {
		return s, err
	}
	if repair := p.repair(); repair != nil {
		return nil, errors.Join(err, repair)
	}
	return try()
}

// try makes one slot. A fresh namespace gets lo and the parameters that Docker's
// containers have.
func (p *pool) try(unshare inNew, name string, fresh bool) (*slot, error) {
	s := &slot{link: p.prefix + letters(p.counter.Add(1))[:5], inside: name}
	span := trace.Begin(trace.Net, "prepare namespace", s.link)
	var err error
	s.ns, err = unshare(func(ns *os.File) (err error) {
		if s.conn, err = netlink.Dial(unix.NETLINK_ROUTE); err != nil {
			return err
		}
		defer p.borrow(s.conn)()
		if fresh {
			if err := defaults(); err != nil {
				return err
			}
		}
		if err := p.connect(s, ns); err != nil {
			return err
		}
		if fresh {
			s.sockets, err = netns.OpenSockets()
		}
		return err
	})
	if err != nil {
		s.close()
		return nil, span.End(err)
	}
	return s, span.End(nil)
}

// borrow gives a connection a buffer until the function returned is called.
func (p *pool) borrow(c *netlink.Conn) func() {
	b := p.buffers.Get().(*[scratch]byte)
	c.Buffer = b[:]
	return func() {
		c.Buffer = nil
		p.buffers.Put(b)
	}
}

// leastIPv6MTU is what IPv6 needs (RFC 8200, section 5): the kernel keeps it from a
// link with less, and refuses to be told how (EAFNOSUPPORT).
const leastIPv6MTU = 1280

// connect makes the veth pair of s, from inside its namespace.
func (p *pool) connect(s *slot, ns *os.File) error {
	var r netlink.Request
	r.AddVeth(netlink.Veth{Name: s.link, MTU: p.mtu, Peer: s.inside, PeerNS: ns, NoIPv6: p.ipv6 && p.mtu >= leastIPv6MTU})
	if err := p.host.Do(&r); err != nil {
		return err
	}
	if err := p.configure6(s.inside); err != nil {
		return err
	}
	// Both ends are up from now on, so that a start need not wait for the
	// kernel to notice; without an address eth0 stays silent. The port of the
	// bridge comes last: it then has a carrier at once.
	r.Reset()
	r.SetUp(loIndex, "")
	r.SetUp(0, s.inside)
	if err := s.conn.Do(&r); err != nil {
		return err
	}
	// With br_netfilter the bridge itself turns round what a container sends
	// to its own published port; it then leaves by the port it came in by.
	bridge := int(p.bridge.Load())
	r.Reset()
	r.AddPort(0, s.link, bridge)
	r.SetPort(0, s.link, true, p.isolated)
	if err := p.host.Do(&r); err != nil {
		return err
	}
	if _, err := settle(p.host, 0, s.link); err != nil {
		return err
	}
	eth0, err := settle(s.conn, 0, s.inside)
	if err != nil {
		return err
	}
	s.device = eth0.Index
	_, err = settle(p.host, bridge, "")
	return err
}

// configure6 sets IPv6 up on a new interface in the namespace of the calling
// thread: on a network without IPv6 it gets no address of that kind, as in
// Docker, and on others none but ours.
func (p *pool) configure6(name string) error {
	if !p.ipv6 {
		return nil
	}
	conf := "net/ipv6/conf/" + name + "/"
	if !p.inet6 {
		return disable6(name)
	}
	return errors.Join(
		netns.Sysctl(conf+"disable_ipv6", "0"),
		netns.Sysctl(conf+"accept_ra", "0"),
	)
}

// disable6 keeps IPv6 from an interface in the namespace of the calling thread.
func disable6(name string) error {
	err := netns.Sysctl("net/ipv6/conf/"+name+"/disable_ipv6", "1")
	if errors.Is(err, os.ErrNotExist) { // its packets are too small for IPv6
		return nil
	}
	return err
}

// settle returns a link when it works. A link that has got its carrier drops
// packets until the kernel's link watch has run, which may take a while; from
// Linux 6.8 on, asking for the link makes it run (rtnl_getlink).
func settle(c *netlink.Conn, index int, name string) (netlink.Link, error) {
	const tries, between = 100, 2 * time.Millisecond
	for try := 0; ; try++ {
		l, err := c.LinkState(index, name)
		if err != nil || l.Works || try == tries {
			return l, err
		}
		<-time.After(between)
	}
}

// loIndex is the index of lo, the first link of every namespace.
const loIndex = 1

// defaults writes what Docker's containers have in the namespace of the calling
// thread: low ports and ping need no capability.
func defaults() error {
	return errors.Join(
		netns.Sysctl("net/ipv4/ip_unprivileged_port_start", "0"),
		pingGroups(),
	)
}

// pingGroups lets every group ping. Where the engine itself is in a user
// namespace it can name no others than those that are mapped there.
func pingGroups() error {
	const file, all = "net/ipv4/ping_group_range", "0 2147483647"
	err := netns.Sysctl(file, all)
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	ids, err := idmap.Of(os.Getpid())
	if err != nil {
		return err
	}
	for _, m := range ids.GID {
		if m.ContainerID == 0 {
			return netns.Sysctl(file, "0 "+strconv.FormatUint(uint64(m.Size-1), 10))
		}
	}
	return nil
}

// setSysctls writes parameters inside a namespace. IFNAME in one stands for the
// name of an interface. Errors: Invalid.
func setSysctls(ns *os.File, values map[string]string, ifname string) error {
	if len(values) == 0 {
		return nil
	}
	for name := range values {
		if p := sysctlPath(name); !strings.HasPrefix(p, "net/") || p != path.Clean(p) {
			return errdefs.Invalidf("sysctl %q is not in a separate kernel namespace", name)
		}
	}
	return netns.Do(ns, func() error {
		for name, value := range values {
			name = strings.ReplaceAll(name, "IFNAME", ifname)
			if err := trace.Begin(trace.Net, "sysctl", name).End(netns.Sysctl(sysctlPath(name), value)); err != nil {
				return errdefs.Invalidf("cannot set sysctl %s to %q: %w", name, value, err)
			}
		}
		return nil
	})
}

// sysctlPath returns the path of a parameter below /proc/sys. The separator is
// the dot, or the slash if that comes first (sysctl.d(5)).
func sysctlPath(name string) string {
	if i := strings.IndexAny(name, "./"); i >= 0 && name[i] == '/' {
		return name
	}
	return strings.NewReplacer(".", "/", "/", ".").Replace(name)
}
