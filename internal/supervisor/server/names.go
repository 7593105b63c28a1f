package server

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/dns"
	"lade/internal/errdefs"
	"lade/internal/network/etc"
	"lade/internal/supervisor/wire"
)

// names is what all name servers share: the networks, and what is under way. It
// belongs to the loop.
type names struct {
	s        *Server
	networks map[string]*network // by id
	asks     map[*ask]struct{}
	clients  map[*nameClient]struct{}
	ticking  bool
	in, out  []byte // a message, in the loop's buffer, and the answer to it
	host     hostServers
	ours     string // the network namespace that we live in
}

const threadNetNS = "/proc/thread-self/ns/net"

func (n *names) init(s *Server) {
	n.s, n.in = s, s.io[headerLen:]
	n.ours, _ = os.Readlink(threadNetNS) // without /proc nothing is started at all
	n.networks, n.asks, n.clients = map[string]*network{}, map[*ask]struct{}{}, map[*nameClient]struct{}{}
	n.host.path = s.o.ResolvConf
	if n.host.path == "" {
		n.host.path = etc.HostFile
	}
}

// network is a network and how many name servers know of it.
type network struct {
	dns.Network
	users  int
	across *across // nil: it is of this host only
}

// network returns a network by its id; before SetNames it is empty.
func (n *names) network(id string) *network {
	w := n.networks[id]
	if w == nil {
		w = &network{}
		n.networks[id] = w
	}
	return w
}

// use counts the users of networks, and forgets those without hosts that have
// none.
func (n *names) use(networks []wire.ResolverNetwork, count int) {
	for _, m := range networks {
		w := n.network(m.Network)
		w.users += count
		n.prune(m.Network)
	}
}

func (n *names) prune(id string) {
	w := n.networks[id]
	if _, hosts := w.Hosts(); len(hosts) == 0 && w.users == 0 && w.across == nil {
		delete(n.networks, id)
	}
}

// setNames replaces the names of a network.
func (s *Server) setNames(r *request, m *wire.SetNames) error {
	if m.Network == "" {
		return errdefs.Invalidf("supervisor: names of a network without an id")
	}
	for _, h := range m.Hosts {
		if len(h.Names) == 0 {
			return errdefs.Invalidf("supervisor: a host of network %s has no name", m.Name)
		}
	}
	s.names.set(m)
	r.ok()
	return nil
}

func (n *names) set(m *wire.SetNames) {
	hosts := make([]dns.Host, len(m.Hosts))
	for i, h := range m.Hosts {
		hosts[i] = dns.Host{Names: h.Names, Addresses: h.Addresses}
	}
	w := n.network(m.Network)
	w.Set(m.Name, hosts)
	n.stretch(w, m.Across)
	n.prune(m.Network)
}

// state returns the messages that make the networks what they are.
func (n *names) state() (all []wire.SetNames) {
	for id, w := range n.networks {
		name, hosts := w.Hosts()
		m := wire.SetNames{Network: id, Name: name, Across: w.across.said()}
		for _, h := range hosts {
			m.Hosts = append(m.Hosts, wire.Host{Names: h.Names, Addresses: h.Addresses})
		}
		all = append(all, m)
	}
	return all
}

// tickEvery is how often what is under way is looked at, as long as something is.
const tickEvery = 200 * time.Millisecond

// tick looks at what is under way from now on.
func (n *names) tick() {
	if n.ticking {
		return
	}
	n.ticking = true
	n.s.trim() // queries may take more memory than a quiet server has
	n.s.poll.after(tickEvery, n.look)
}

func (n *names) look() {
	n.ticking = false
	now := time.Now()
	for a := range n.asks {
		a.look(now)
	}
	for c := range n.clients {
		c.look(now)
	}
	if len(n.asks)+len(n.clients) > 0 {
		n.tick()
		return
	}
	for _, c := range n.s.containers {
		if c.resolver != nil {
			c.resolver.dropSpare()
		}
	}
}

// hostServers are the servers in the host's resolv.conf. They are read again when
// the file is another: systemd-resolved, DHCP clients and VPNs change it, and laded
// may be away then.
type hostServers struct {
	path    string
	seen    unix.Stat_t
	servers []netip.Addr
}

func (h *hostServers) get() []netip.Addr {
	var now unix.Stat_t
	if err := unix.Stat(h.path, &now); err != nil {
		return nil
	}
	if now.Ino != h.seen.Ino || now.Dev != h.seen.Dev || now.Mtim != h.seen.Mtim || now.Size != h.seen.Size {
		file, err := os.ReadFile(h.path)
		if err != nil {
			return nil
		}
		h.seen, h.servers = now, etc.Nameservers(file)
		h.servers = h.servers[:min(len(h.servers), maxServers)]
	}
	return h.servers
}

// sockaddr returns what connect(2) takes for an address. A zone is the name or the
// number of an interface of the host.
func sockaddr(at netip.AddrPort) (family int, sa unix.Sockaddr) {
	a := at.Addr().Unmap()
	if a.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(at.Port()), Addr: a.As4()}
	}
	six := &unix.SockaddrInet6{Port: int(at.Port()), Addr: a.As16()}
	if zone := a.Zone(); zone != "" {
		n, err := strconv.ParseUint(zone, 10, 32)
		if err != nil && !strings.Contains(zone, "/") {
			raw, _ := os.ReadFile("/sys/class/net/" + zone + "/ifindex") // none: connect fails
			n, _ = strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 32)
		}
		six.ZoneId = uint32(n)
	}
	return unix.AF_INET6, six
}
