package network

import (
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"lade/internal/need"
)

// TestPortRange publishes ranges of ports, each of which is one element, and takes
// one port out of the middle.
func TestPortRange(t *testing.T) {
	need.Program(t, "nft", "Debian's nftables")
	b := newBench(t, nil)
	var ports []Publish
	for p := uint16(10000); p < 12000; p++ {
		ports = append(ports, Publish{Proto: "tcp", Port: p, HostPort: p})
	}
	for p := uint16(13000); p < 13016; p++ { // on one address only
		ports = append(ports, Publish{Proto: "udp", Port: p, HostPort: p, HostIP: machine})
	}
	for p := uint16(14000); p < 14020; p++ { // to other numbers
		ports = append(ports, Publish{Proto: "tcp", Port: p - 4000, HostPort: p})
	}
	one := b.connect(Request{Name: "one", Ports: ports})
	for _, p := range []string{":10000", ":10019", ":11000", ":11999"} {
		serve(t, one.NetNS, "tcp", p)
	}
	serve(t, one.NetNS, "udp", ":13015")
	serve(t, nil, "tcp", "0.0.0.0:12000")
	ranges := func(want string) {
		t.Helper()
		raw, err := exec.Command("nft", "list", "map", "ip", b.n.wall.table, portsRanges).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, raw)
		}
		var got []string
		for w := range strings.FieldsSeq(string(raw)) {
			if strings.Contains(w, "-1") {
				got = append(got, w)
			}
		}
		slices.Sort(got)
		if fmt.Sprint(got) != want {
			t.Errorf("ranges %v, want %s:\n%s", got, want, raw)
		}
	}
	at := func(p int) string { return fmt.Sprint(machine, ":", p) }
	all := func() {
		t.Helper()
		for _, p := range []int{10000, 11999, 14019} {
			reaches(t, "outside to a port of a range", b.other, "tcp", at(p), outside.String())
		}
		reaches(t, "outside to a port of a range, UDP", b.other, "udp", at(13015), outside.String())
		reaches(t, "this host", nil, "tcp", "127.0.0.1:11999", b.gateway().String())
		reaches(t, "the port behind a range is the host's", b.other, "tcp", at(12000), outside.String())
	}
	ranges("[10000-11999 13000-13015]")
	reaches(t, "outside to one of the middle", b.other, "tcp", at(11000), outside.String())
	all()

	without := append([]Publish{}, ports[:1000]...)
	if _, err := b.n.Republish(t.Context(), one.id, append(without, ports[1001:]...)); err != nil {
		t.Fatal(err)
	}
	ranges("[10000-10999 11001-11999 13000-13015]")
	silent(t, "what was taken back", b.other, "tcp", at(11000))
	all()
	b.crash()
	b.start()
	ranges("[10000-10999 11001-11999 13000-13015]")
	all()
	if err := b.n.Release(t.Context(), one.id); err != nil {
		t.Fatal(err)
	}
	ranges("[]")
	if !b.n.wall.ports.empty() {
		t.Errorf("left: %v", b.n.wall.ports)
	}
}

// TestGather makes ranges of what follows each other, and of nothing else.
func TestGather(t *testing.T) {
	p := newPublished()
	add := func(proto string, ip string, first, n, shift int, to string) {
		for i := range n {
			p.to[hostPort{proto, netip.AddrPortFrom(netip.MustParseAddr(ip), uint16(first+i))}] = netip.AddrPortFrom(netip.MustParseAddr(to), uint16(first+i+shift))
		}
	}
	add("tcp", "0.0.0.0", 65500, 36, 0, "10.0.0.2")
	add("udp", "0.0.0.0", 65500, 36, 0, "10.0.0.2")
	add("tcp", "0.0.0.0", 1000, manyInARow-1, 0, "10.0.0.2")
	add("tcp", "0.0.0.0", 2000, 100, 1, "10.0.0.2")
	add("tcp", "0.0.0.0", 3000, manyInARow, 0, "10.0.0.2")
	add("tcp", "0.0.0.0", 3000+manyInARow, manyInARow, 0, "10.0.0.3")
	add("tcp", "127.0.0.1", 4000, manyInARow, 0, "10.0.0.2")
	add("tcp", "::", 4000, manyInARow, 0, "fd00::2")
	p.gather()
	if len(p.ranges) != 6 || len(p.to) != manyInARow-1+100 {
		t.Errorf("%d ports, ranges %v", len(p.to), p.ranges)
	}
	if to := p.ranges[portRange{"udp", netip.IPv4Unspecified(), 65500, 65535}]; to.String() != "10.0.0.2" {
		t.Errorf("ranges %v", p.ranges)
	}
}
