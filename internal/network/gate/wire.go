package gate

import (
	"encoding/json"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/iprange"
)

// Port is a port of the host and where it leads.
type Port struct {
	Proto string         `json:"proto"` // tcp or udp
	Host  netip.AddrPort `json:"host"`
	To    netip.AddrPort `json:"to"` // in the container
	// Near are the subnets of the container's network.
	Near []netip.Prefix `json:"near,omitempty"`
	// From are the clients that may connect; nil: all. Others are reset, or not
	// answered.
	From []iprange.Range `json:"from,omitempty"`
	// Mark is what sockets get that have a client's address (SO_MARK); 0: none has
	// one, because there are no rules that bring the answers back.
	Mark uint32 `json:"mark"`
}

// Key is what tells ports apart.
type Key struct {
	Proto string
	Host  netip.AddrPort
}

// Key is the port's.
func (p *Port) Key() Key { return Key{p.Proto, p.Host} }

// mayReach reports whether a client may connect.
func (p *Port) mayReach(client netip.Addr) bool {
	if p.From == nil {
		return true
	}
	for _, r := range p.From {
		if r.Contains(client) {
			return true
		}
	}
	return false
}

// keeps reports whether the container sees a client's address.
func (p *Port) keeps(client netip.Addr) bool {
	if p.Mark == 0 || client.Is4() != p.To.Addr().Is4() || client.IsLoopback() || client.IsLinkLocalUnicast() {
		return false
	}
	for _, n := range p.Near {
		if n.Contains(client) {
			return false
		}
	}
	return true
}

// message is a request, or the answer to one.
type message struct {
	Op    string `json:"op,omitempty"`
	Port  *Port  `json:"port,omitempty"`
	Abort bool   `json:"abort,omitempty"` // with close: its connections, too
	Build string `json:"build,omitempty"`
	Error string `json:"error,omitempty"`
}

const (
	opHello  = "hello"
	opList   = "list"
	opOpen   = "open"
	opClose  = "close"
	opRetire = "retire"
	opTake   = "take"

	maxMessage = 128 << 10
)

// send writes one message, with a descriptor unless f is nil.
func send(c *net.UnixConn, m message, f *os.File) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(b) > maxMessage {
		return errdefs.Invalidf("gate: a message of %d bytes is too long", len(b))
	}
	if f == nil {
		_, _, err = c.WriteMsgUnix(b, nil, nil)
		return err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { _, _, failed = c.WriteMsgUnix(b, unix.UnixRights(int(fd)), nil) })
	if err != nil {
		return err
	}
	return failed
}

// receive reads one message. The file is nil or the caller's to close. Errors:
// io.EOF at the end.
func receive(c *net.UnixConn, buf []byte) (m message, f *os.File, err error) {
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, flags, _, err := c.ReadMsgUnix(buf, oob)
	if err != nil {
		return m, nil, err
	}
	if oobn > 0 {
		if all, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil && len(all) == 1 {
			if fds, err := unix.ParseUnixRights(&all[0]); err == nil && len(fds) == 1 {
				unix.CloseOnExec(fds[0])
				f = os.NewFile(uintptr(fds[0]), "port")
			}
		}
	}
	if flags&unix.MSG_TRUNC != 0 {
		err = errdefs.Invalidf("gate: a message is too long")
	} else {
		err = json.Unmarshal(buf[:n], &m)
	}
	if err != nil && f != nil {
		f.Close()
		f = nil
	}
	return m, f, err
}
