package network

import (
	"context"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/trace"
)

// inside is the name of a container's interface.
const inside = "eth0"

// slot is a network namespace that lacks only its address.
type slot struct {
	ns     *os.File
	conn   *netlink.Conn // works inside ns
	link   string        // the end in the host
	device int           // index of eth0
}

// close gives the slot up; the kernel removes namespace and links.
func (s *slot) close() {
	s.conn.Close()
	s.ns.Close()
}

// address gives eth0 its hardware address, its address and the default route.
func (s *slot) address(mac net.HardwareAddr, ip netip.Prefix, gateway netip.Addr) error {
	var r netlink.Request
	r.SetMAC(s.device, mac)
	r.AddAddr(s.device, ip)
	if gateway.IsValid() {
		r.AddDefaultRoute(s.device, gateway)
	}
	return trace.Begin(trace.Net, "address", s.link).End(s.conn.Do(&r))
}

// workers is how many goroutines fill the pool: the kernel makes one interface
// at a time (rtnl_mutex), the second one overlaps the rest.
const workers = 2

// pool keeps slots ready.
type pool struct {
	log      *slog.Logger
	bridge   atomic.Int64 // index
	repair   func() error // called when the bridge seems to be gone
	mtu      int
	isolated bool // containers may not reach each other over the bridge
	ipv6     bool // the kernel knows IPv6
	prefix   string
	counter  atomic.Uint32

	slots  chan *slot
	taken  chan struct{} // wakes the workers
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// LinkPrefix begins the names of the host ends of an engine: "veth" and 3
// characters for the bridge; 3 for the process and 5 for the link follow, 15
// in all, the most that a name may have.
func LinkPrefix(bridge string) string {
	h := fnv.New32a()
	h.Write([]byte(bridge))
	return "veth" + letters(h.Sum32())[:3]
}

// letters encodes a number as 7 lower case characters, the low bits first.
func letters(n uint32) string {
	b := binary.LittleEndian.AppendUint32(nil, n)
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}

// newPool describes a pool; start fills it.
func newPool(log *slog.Logger, bridge netlink.Link, mtu int, isolated bool, repair func() error) *pool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	p := &pool{
		log: log, repair: repair, mtu: mtu, isolated: isolated, ipv6: err == nil,
		prefix: LinkPrefix(bridge.Name) + letters(rand.Uint32())[:3],
		cancel: func() {},
	}
	p.bridge.Store(int64(bridge.Index))
	return p
}

// start lets goroutines keep size slots ready until close.
func (p *pool) start(size int) {
	if size <= 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.slots = make(chan *slot, size)
	p.taken = make(chan struct{}, workers)
	for range min(workers, size) {
		p.wg.Go(func() { p.fill(ctx) })
	}
}

// rest is how long a pool that is half full waits after a slot was taken: the
// start that took it should not wait for the kernel's locks.
const rest = 20 * time.Millisecond

func (p *pool) fill(ctx context.Context) {
	const first, most = 100 * time.Millisecond, 30 * time.Second
	failure := first
	pause := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	for ctx.Err() == nil {
		if len(p.slots) == cap(p.slots) {
			select {
			case <-p.taken:
			case <-ctx.Done():
				return
			}
			if 2*len(p.slots) >= cap(p.slots) {
				pause(rest)
			}
		}
		s, err := p.make()
		if err != nil {
			p.log.Warn("cannot prepare a network namespace", "error", err, "again_in", failure)
			pause(failure)
			failure = min(2*failure, most)
			continue
		}
		failure = first
		select {
		case p.slots <- s:
		case <-ctx.Done():
			s.close()
		}
	}
}

// take returns a slot: a prepared one if there is, else a new one.
func (p *pool) take() (*slot, error) {
	select {
	case s := <-p.slots:
		select {
		case p.taken <- struct{}{}:
		default: // all workers know
		}
		return s, nil
	default:
		return p.make()
	}
}

// close ends the goroutines and gives the slots up.
func (p *pool) close() {
	p.cancel()
	p.wg.Wait()
	for {
		select {
		case s := <-p.slots:
			s.close()
		default:
			return
		}
	}
}

// make prepares a namespace with eth0, whose other end is a port of the bridge.
// When that fails because the bridge is gone, it is made anew.
func (p *pool) make() (*slot, error) {
	s, err := p.try()
	if !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EINVAL) {
		return s, err
	}
	if repair := p.repair(); repair != nil {
		return nil, errors.Join(err, repair)
	}
	return p.try()
}

func (p *pool) try() (*slot, error) {
	// The veth request is sent from the host's side, by a socket that belongs
	// there; everything else happens inside.
	host, err := netlink.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer host.Close()
	s := &slot{link: p.prefix + letters(p.counter.Add(1))[:5]}
	span := trace.Begin(trace.Net, "prepare namespace", s.link)
	s.ns, err = netns.New(func(ns *os.File) (err error) {
		if s.conn, err = loopbackUp(); err != nil {
			return err
		}
		return p.connect(s, ns, host)
	})
	if err != nil {
		if s.conn != nil {
			s.conn.Close()
		}
		return nil, span.End(err)
	}
	return s, span.End(nil)
}

// connect makes the veth pair of s, from inside its namespace.
func (p *pool) connect(s *slot, ns *os.File, host *netlink.Conn) error {
	// eth0 takes its IPv6 setting from the namespace's default when it appears.
	// On a network without IPv6 it gets no address of that kind, as in Docker.
	if err := p.disableIPv6("1"); err != nil {
		return err
	}
	var r netlink.Request
	r.AddVeth(netlink.Veth{Name: s.link, MTU: p.mtu, Peer: inside, PeerNS: ns, NoIPv6: p.ipv6})
	if err := host.Do(&r); err != nil {
		return err
	}
	if err := p.disableIPv6("0"); err != nil {
		return err
	}
	// Both ends are up from now on, so that a start need not wait for the
	// kernel to notice; without an address eth0 stays silent. The port of the
	// bridge comes last: it then has a carrier at once.
	r.Reset()
	r.SetUp(0, inside)
	if err := s.conn.Do(&r); err != nil {
		return err
	}
	bridge := int(p.bridge.Load())
	r.Reset()
	r.AddPort(0, s.link, bridge)
	if err := host.Do(&r); err != nil {
		return err
	}
	port, err := settle(host, 0, s.link)
	if err != nil {
		return err
	}
	eth0, err := settle(s.conn, 0, inside)
	if err != nil {
		return err
	}
	if _, err := settle(host, bridge, ""); err != nil {
		return err
	}
	s.device = eth0.Index
	// With br_netfilter the bridge itself turns round what a container sends
	// to its own published port; it then leaves by the port it came in by.
	r.Reset()
	r.SetPort(port.Index, true, p.isolated)
	return host.Do(&r)
}

// settle returns a link when it works. A link that has got its carrier drops
// packets until the kernel's link watch has run, which may take a while; from
// Linux 6.8 on, asking for the link makes it run (rtnl_getlink).
func settle(c *netlink.Conn, index int, name string) (netlink.Link, error) {
	const tries, between = 100, 2 * time.Millisecond
	for try := 0; ; try++ {
		l, err := c.Link(index, name)
		if err != nil || l.Works || try == tries {
			return l, err
		}
		<-time.After(between)
	}
}

func (p *pool) disableIPv6(value string) error {
	if !p.ipv6 {
		return nil
	}
	return sysctl("net/ipv6/conf/default/disable_ipv6", value)
}

// loopbackUp completes the namespace of the calling thread, as far as every
// container's needs it, and returns a socket inside.
func loopbackUp() (*netlink.Conn, error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	var r netlink.Request
	r.SetUp(1, "") // lo is the first link of every namespace
	err = conn.Do(&r)
	// Docker's defaults: low ports and ping need no capability.
	for name, value := range map[string]string{
		"net/ipv4/ip_unprivileged_port_start": "0",
		"net/ipv4/ping_group_range":           "0 2147483647",
	} {
		if err == nil {
			err = sysctl(name, value)
		}
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// sysctl writes a parameter of the calling thread's namespace; name is its path
// below /proc/sys.
func sysctl(name, value string) error {
	f, err := os.OpenFile("/proc/sys/"+name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// setSysctls writes parameters inside a namespace. Errors: Invalid.
func setSysctls(ns *os.File, values map[string]string) error {
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
			if err := trace.Begin(trace.Net, "sysctl", name).End(sysctl(sysctlPath(name), value)); err != nil {
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
