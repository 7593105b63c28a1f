package dns

import (
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// View is what one container can ask for.
type View struct {
	// Members are the networks that it is on; the first that has a name answers.
	Members []Member
	// Bare keeps questions for addresses of names without a dot that are not known
	// here from the servers outside: the user has set ndots, and the resolver asks
	// again with a domain.
	Bare bool
	// Wide says that other hosts may know what is not known here; see Elsewhere.
	Wide bool

	turn uint32 // which of several addresses is the first
}

// Member is a container's place in a network.
type Member struct {
	Network *Network
	// Links are names, in lower case, that this container alone has for others of
	// the network.
	Links map[string]string
}

// lookup returns the addresses of a name, in lower case and without the last
// dot, in all families, and whether there is such a name. The slice is the
// table's.
func (v *View) lookup(name []byte) (addrs []netip.Addr, known bool) {
	for i := range v.Members {
		if addrs, known = v.Members[i].lookup(name); known {
			return addrs, true
		}
	}
	dot := strings.LastIndexByte(string(name), '.')
	if dot <= 0 || dot == len(name)-1 {
		return nil, false
	}
	for i := range v.Members {
		m := &v.Members[i]
		if m.Network.table().name != string(name[dot+1:]) {
			continue
		}
		if addrs, known = m.lookup(name[:dot]); known {
			return addrs, true
		}
	}
	return nil, false
}

func (m *Member) lookup(name []byte) (addrs []netip.Addr, known bool) {
	t := m.Network.table()
	if to, linked := m.Links[string(name)]; linked {
		if addrs, known = t.addrs[strings.ToLower(to)]; known {
			return addrs, true
		}
	}
	addrs, known = t.addrs[string(name)]
	return addrs, known
}

// Elsewhere returns which of the members' networks may have what a query is about
// on another host: those that are named, or all for a name without a dot; with an
// address that is asked for (PTR), it is for the caller to say in which it is.
func (v *View) Elsewhere(msg []byte) (members []int, reverse netip.Addr) {
	var q query
	if code, ok := q.read(msg, true); !ok || code != dnsmessage.RCodeSuccess || q.question.Class != dnsmessage.ClassINET {
		return nil, reverse
	}
	var room [255]byte
	name := string(lower(room[:0], &q.question.Name))
	of := ""
	switch q.question.Type {
	case dnsmessage.TypeA, dnsmessage.TypeAAAA:
		if dot := strings.LastIndexByte(name, '.'); dot >= 0 {
			of = name[dot+1:]
		}
	case dnsmessage.TypePTR:
		var ok bool
		if reverse, ok = address([]byte(name)); !ok {
			return nil, reverse
		}
	default:
		return nil, reverse
	}
	for i := range v.Members {
		if of == "" || v.Members[i].Network.table().name == of {
			members = append(members, i)
		}
	}
	return members, reverse
}

// reverse returns what an address is called, with its network's name.
func (v *View) reverse(a netip.Addr) (name string, known bool) {
	for i := range v.Members {
		t := v.Members[i].Network.table()
		if name, known = t.names[a]; known {
			return name + "." + t.shown, true
		}
	}
	return "", false
}

// address returns the address that a name in in-addr.arpa or ip6.arpa is for; in
// lower case, without the last dot.
//
// Sources: RFC 1035, 3.5; RFC 3596, 2.5.
func address(name []byte) (netip.Addr, bool) {
	const four, six = ".in-addr.arpa", ".ip6.arpa"
	text := string(name)
	if head, ok := strings.CutSuffix(text, four); ok {
		labels := strings.Split(head, ".")
		if len(labels) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(labels[3] + "." + labels[2] + "." + labels[1] + "." + labels[0])
		return a, err == nil && a.Is4()
	}
	head, ok := strings.CutSuffix(text, six)
	if !ok || len(head) != 63 {
		return netip.Addr{}, false
	}
	var raw [16]byte
	for i := range 32 { // the last digit of the address is the first label
		if i > 0 && head[2*i-1] != '.' {
			return netip.Addr{}, false
		}
		at := strings.IndexByte("0123456789abcdef", head[2*i])
		if at < 0 {
			return netip.Addr{}, false
		}
		raw[15-i/2] |= byte(at) << (4 * (i % 2))
	}
	return netip.AddrFrom16(raw), true
}
