package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/iprange"
	"lade/internal/linux/socket"
)

// binding is a port of the host that was given to a container.
type binding struct {
	Proto    string     `json:"proto"`
	Port     uint16     `json:"port"` // in the container
	HostIP   netip.Addr `json:"hostIP"`
	HostPort uint16     `json:"hostPort"`
	Of       int        `json:"of,omitempty"`     // which of the ports asked for
	Policy   string     `json:"policy,omitempty"` // PolicyGate, or "" for PolicyDNAT
	// Served says that the gate has the socket: of PolicyGate, and of PolicyDNAT on
	// all IPv6 addresses, of which ::1 is not translated.
	Served bool            `json:"served,omitempty"`
	From   []iprange.Range `json:"from,omitempty"` // who may connect; nil: everybody
}

func (b binding) host() hostPort {
	return hostPort{b.Proto, netip.AddrPortFrom(b.HostIP, b.HostPort)}
}

// claim is a host port without its address.
type claim struct {
	proto string
	port  uint16
}

// ports knows which ports of the host the engine has given out, and holds the
// sockets that reserve them.
type ports struct {
	first, last uint16 // for ports that are left to us

	mu   sync.Mutex
	held map[claim][]holder
	open int               // sockets that reserve ports
	next map[string]uint16 // by protocol: where the search for a free port begins
}

// holder is an address on which a port is given out.
type holder struct {
	ip netip.Addr
	f  *os.File // the socket; nil while it is bound, where it could not be, and beyond maxReserved
}

// maxReserved is for how many ports a socket is held that reserves them and does
// nothing: each takes 4 kB of the kernel's memory. Ports beyond are free when they
// are given out, but a program of the host can bind them later. It gets nothing of
// what comes to them.
const maxReserved = 1024

// newPorts reads the range of ephemeral ports, 32768 to 60999 where the system
// does not say.
func newPorts() *ports {
	p := &ports{first: 32768, last: 60999, held: map[claim][]holder{}, next: map[string]uint16{}}
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		if f := strings.Fields(string(b)); len(f) == 2 {
			first, err1 := strconv.ParseUint(f[0], 10, 16)
			last, err2 := strconv.ParseUint(f[1], 10, 16)
			if err1 == nil && err2 == nil && first > 0 && first <= last {
				p.first, p.last = uint16(first), uint16(last)
			}
		}
	}
	return p
}

// take claims a port in our own books and reports whether it was free.
func (p *ports) take(h hostPort) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.takeLocked(h)
}

func (p *ports) takeLocked(h hostPort) bool {
	c := claim{h.proto, h.Port()}
	for _, u := range p.held[c] { // each family has its own ports
		if u.ip.Is6() == h.Addr().Is6() && (u.ip == h.Addr() || u.ip.IsUnspecified() || h.Addr().IsUnspecified()) {
			return false
		}
	}
	p.held[c] = append(p.held[c], holder{ip: h.Addr()})
	return true
}

// find returns the holder of a port; nil when it is not given out. It is valid
// until the next change.
func (p *ports) find(h hostPort) *holder {
	users := p.held[claim{h.proto, h.Port()}]
	for i := range users {
		if users[i].ip == h.Addr() {
			return &users[i]
		}
	}
	return nil
}

// set keeps a socket that is bound.
func (p *ports) set(h hostPort, served bool, f *os.File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.find(h)
	switch {
	case f == nil: // nobody else can have the port either
	case u == nil, !served && p.open >= maxReserved:
		f.Close()
	default:
		u.f = f
		if !served {
			p.open++
		}
	}
}

// takeEphemeral claims the next free port for an address.
func (p *ports) takeEphemeral(proto string, ip netip.Addr) (hostPort, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	size := uint32(p.last-p.first) + 1
	from := max(p.next[proto], p.first) - p.first
	for i := range size {
		port := p.first + uint16((uint32(from)+i)%size)
		h := hostPort{proto, netip.AddrPortFrom(ip, port)}
		if p.takeLocked(h) {
			p.next[proto] = p.first + uint16((uint32(port-p.first)+1)%size)
			return h, true
		}
	}
	return hostPort{}, false
}

// hold binds the socket for a claimed port, or gives the claim up.
func (p *ports) hold(h hostPort, served bool) error {
	f, err := bindSocket(h, served)
	if err != nil {
		p.release(h, served)
		return err
	}
	p.set(h, served, f)
	return nil
}

// bindSocket binds the socket of a port: for the gate, or to reserve it.
func bindSocket(h hostPort, served bool) (*os.File, error) {
	if served {
		return socket.Listen(h.proto, h.AddrPort)
	}
	return socket.Reserve(h.proto, h.AddrPort)
}

// keep claims a port that a running container has, even when a program of the
// host took it meanwhile: connections from outside still reach the container. f
// is its socket, if the gate has kept it.
func (p *ports) keep(h hostPort, served bool, f *os.File) (err error) {
	p.take(h)
	if f == nil {
		f, err = bindSocket(h, served)
	}
	if err != nil {
		return err
	}
	p.set(h, served, f)
	return nil
}

// socket returns that of a port; nil where there is none.
func (p *ports) socket(h hostPort) *os.File {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.find(h); u != nil {
		return u.f
	}
	return nil
}

// release gives a port back.
func (p *ports) release(h hostPort, served bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.find(h)
	if u == nil {
		return
	}
	if u.f != nil {
		u.f.Close()
		if !served {
			p.open--
		}
	}
	c := claim{h.proto, h.Port()}
	p.held[c] = slices.DeleteFunc(p.held[c], func(u holder) bool { return u.ip == h.Addr() })
	if len(p.held[c]) == 0 {
		delete(p.held, c)
	}
}

// close gives all sockets back and keeps the books.
func (p *ports) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, users := range p.held {
		for i := range users {
			if users[i].f != nil {
				users[i].f.Close()
				users[i].f = nil
			}
		}
	}
}

// newBinding is one without a port of the host.
func newBinding(pub Publish, at place) binding {
	b := binding{Proto: pub.Proto, Port: pub.Port, HostIP: at.host, Served: at.served, From: pub.From}
	if at.policy == PolicyGate {
		b.Policy = PolicyGate
	}
	return b
}

// bind finds and reserves the host port of one Publish. Errors: Internal, in
// Docker's words.
func (p *ports) bind(pub Publish, at place) (binding, error) {
	ip, to := at.host, at.container
	b := newBinding(pub, at)
	if pub.HostPort == 0 {
		// Ports of other programs are passed over; there are not that many.
		for range int(p.last-p.first) + 1 {
			h, ok := p.takeEphemeral(pub.Proto, ip)
			if !ok {
				break
			}
			err := p.hold(h, at.served)
			if err == nil {
				b.HostPort = h.Port()
				return b, nil
			}
			if !errors.Is(err, unix.EADDRINUSE) {
				return b, bindError(h, pub, to, err)
			}
		}
		return b, errdefs.Internalf("all ports are allocated")
	}
	end := max(pub.HostPort, pub.HostPortEnd)
	var taken error
	for port := uint32(pub.HostPort); port <= uint32(end); port++ {
		h := hostPort{pub.Proto, netip.AddrPortFrom(ip, uint16(port))}
		if !p.take(h) {
			taken = errdefs.Internalf("Bind for %s failed: port is already allocated", h.AddrPort)
			continue
		}
		err := p.hold(h, at.served)
		if err == nil {
			b.HostPort = h.Port()
			return b, nil
		}
		taken = bindError(h, pub, to, err)
		if !errors.Is(err, unix.EADDRINUSE) {
			return b, taken
		}
	}
	if end > pub.HostPort {
		return b, errdefs.Internalf("Bind for %s-%d failed: all ports are allocated", netip.AddrPortFrom(ip, pub.HostPort), end)
	}
	return b, taken
}

func bindError(h hostPort, pub Publish, to netip.Addr, err error) error {
	var errno unix.Errno
	text := err.Error()
	if errors.As(err, &errno) {
		text = errno.Error()
	}
	return errdefs.Internalf("failed to bind host port for %s:%s/%s: %s", h.AddrPort, netip.AddrPortFrom(to, pub.Port), pub.Proto, text)
}

// place is where a port is published: an address of the host and one of the
// container, and how.
type place struct {
	host, container netip.Addr
	policy          string
	served          bool // see binding
}

// bindAll binds the port of a Publish at all places, of which there are two at
// most: the same number in both families. Errors: as bind; then none is bound.
func (p *ports) bindAll(pub Publish, at []place) ([]binding, error) {
	const tries = 64 // of ports that one family has and the other has not
	if len(at) == 0 {
		return nil, nil
	}
	for try := 1; ; try++ {
		first, err := p.bind(pub, at[0])
		if err != nil || len(at) == 1 {
			return []binding{first}, err
		}
		same := pub
		same.HostPort, same.HostPortEnd = first.HostPort, 0
		second, err := p.bind(same, at[1])
		if err == nil {
			return []binding{first, second}, nil
		}
		p.release(first.host(), first.Served)
		switch {
		case pub.HostPort == 0 && try < tries:
		case pub.HostPort != 0 && first.HostPort < pub.HostPortEnd:
			pub.HostPort = first.HostPort + 1
		default:
			return nil, err
		}
	}
}

// check refuses a Publish that could never work.
func (pub Publish) check() error {
	switch {
	case pub.Proto != "tcp" && pub.Proto != "udp" && pub.Proto != "sctp":
		return errdefs.Invalidf("invalid protocol %q for port %d", pub.Proto, pub.Port)
	case pub.Port == 0:
		return errdefs.Invalidf("invalid container port 0/%s", pub.Proto)
	case CheckPolicy(pub.Policy) != nil:
		return CheckPolicy(pub.Policy)
	}
	return nil
}

// CheckPolicy refuses what is no publish policy. "" is the default.
func CheckPolicy(policy string) error {
	switch policy {
	case "", PolicyDNAT, PolicyGate:
		return nil
	}
	return errdefs.Invalidf("invalid publish policy %q: want %s or %s", policy, PolicyDNAT, PolicyGate)
}

// String formats the binding as "0.0.0.0:8080->80/tcp".
func (b binding) String() string {
	return fmt.Sprintf("%s:%d->%d/%s", b.HostIP, b.HostPort, b.Port, b.Proto)
}
