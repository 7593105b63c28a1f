package network

import (
	"net/netip"
	"testing"
)

func TestConnect(t *testing.T) {
	b := newBench(t, nil)
	gw := b.n.Gateway().String()
	one := b.connect(Request{Name: "one", Ports: []Publish{
		{Proto: "tcp", Port: 80, HostPort: 8080},
		{Proto: "udp", Port: 53, HostPort: 8053},
		{Proto: "tcp", Port: 80, HostPort: 8081, HostIP: netip.MustParseAddr("127.0.0.1")},
		{Proto: "tcp", Port: 80, HostPort: 8082, HostIP: machine},
	}})
	two := b.connect(Request{Name: "two"})
	serve(t, one.NetNS, "tcp", ":80")
	serve(t, one.NetNS, "udp", ":53")
	serve(t, two.NetNS, "tcp", ":80")
	serve(t, b.other, "tcp", ":80")
	serve(t, b.other, "udp", ":53")
	ip1, ip2 := one.IPv4.Addr().String(), two.IPv4.Addr().String()

	answers(t, "host to container", nil, "tcp", ip1+":80", gw)
	answers(t, "container to container", two.NetNS, "tcp", ip1+":80", ip2)
	answers(t, "container to outside", one.NetNS, "tcp", outside.String()+":80", machine.String())
	answers(t, "container to outside, UDP", one.NetNS, "udp", outside.String()+":53", machine.String())
	answers(t, "outside to published", b.other, "tcp", machine.String()+":8080", outside.String())
	answers(t, "outside to published, UDP", b.other, "udp", machine.String()+":8053", outside.String())
	answers(t, "outside to host address", b.other, "tcp", machine.String()+":8082", outside.String())
	answers(t, "localhost", nil, "tcp", "127.0.0.1:8080", gw)
	answers(t, "localhost, UDP", nil, "udp", "127.0.0.1:8053", gw)
	answers(t, "localhost only", nil, "tcp", "127.0.0.1:8081", gw)
	answers(t, "host by its own address", nil, "tcp", machine.String()+":8080", "")
	answers(t, "another container through the host", two.NetNS, "tcp", gw+":8080", "")
	answers(t, "another container through the host's other address", two.NetNS, "tcp", machine.String()+":8080", "")
	answers(t, "itself through the host", one.NetNS, "tcp", gw+":8080", "")
	answers(t, "itself through the host, UDP", one.NetNS, "udp", machine.String()+":8053", "")

	silent(t, "outside to localhost only", b.other, "tcp", machine.String()+":8081")
	silent(t, "localhost to host address", nil, "tcp", "127.0.0.1:8082")
	silent(t, "outside to the container itself", b.other, "tcp", ip1+":80")
	silent(t, "outside to an unpublished port", b.other, "tcp", machine.String()+":80")
}
