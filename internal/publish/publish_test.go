package publish

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/network"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		"policy=gate": "policy=gate", "from=10.0.0.0/8,policy=dnat,from=fd00::/8": "policy=dnat,from=10.0.0.0/8,from=fd00::/8",
		"": "", "policy=": "", "policy=x": "", "from=": "", "from=10": "", "gate": "", "from=10.0.0.1,": "",
	} {
		o, err := Parse(in)
		if (err != nil) != (want == "") || err == nil && o.String() != want {
			t.Errorf("%q: %v, %v; want %q", in, o, err, want)
		}
	}
}

func TestOf(t *testing.T) {
	web, dns := network.MustParsePort("80/tcp"), network.MustParsePort("53/udp")
	local := netip.MustParseAddr("127.0.0.1")
	all := map[string]string{
		"lade.publish": "from=10.0.0.1", "lade.publish.80/tcp": "from=10.0.0.2", "lade.publish.8080:80": "from=10.0.0.3",
		"lade.publish.127.0.0.1:8080:80/tcp": "from=10.0.0.4", "lade.publish.[::1]::53/udp": "from=10.0.0.5", "other": "x",
	}
	for _, tc := range []struct {
		p    network.Port
		b    network.PortBinding
		want string
	}{
		{web, network.PortBinding{HostIP: local, HostPort: "8080"}, "from=10.0.0.4"},
		{web, network.PortBinding{HostPort: "8080"}, "from=10.0.0.3"},
		{web, network.PortBinding{HostPort: "8081"}, "from=10.0.0.2"},
		{web, network.PortBinding{}, "from=10.0.0.2"},
		{dns, network.PortBinding{}, "from=10.0.0.1"},
		{dns, network.PortBinding{HostIP: netip.IPv6Loopback()}, "from=10.0.0.5"},
	} {
		if got, err := Of(all, tc.p, tc.b); err != nil || got.String() != tc.want {
			t.Errorf("%s: %v, %v; want %s", Name(tc.p, tc.b), got, err, tc.want)
		}
	}
	bindings := network.PortMap{web: {{HostIP: local, HostPort: "8080"}}, dns: {{HostIP: netip.IPv6Loopback()}}}
	if err := Check(all, bindings); err != nil {
		t.Error(err)
	}
	for name, v := range map[string]string{"lade.publish.81/tcp": "policy=gate", "lade.publish.8081:80": "policy=gate", "lade.publish.80/udp": "policy=gate", "lade.publish.80": "policy=gat", "lade.publish.": "policy=gate"} {
		if err := Check(map[string]string{name: v}, bindings); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v", name, v, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("policy=gate,from=10.0.0.0/8")
	f.Fuzz(func(t *testing.T, s string) {
		if o, err := Parse(s); err == nil {
			if again, err := Parse(o.String()); err != nil || again.String() != o.String() {
				t.Errorf("%q: %v, then %v, %v", s, o, again, err)
			}
		}
	})
}
