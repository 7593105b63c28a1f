package etc

import (
	"slices"
	"strings"
	"testing"
)

func TestResolvInternal(t *testing.T) {
	for name, tc := range map[string]struct {
		host                 string
		dns, search, options []string
		lines                string // after the name server
		ndots                bool
	}{
		// Docker 28's own, of the golden data
		"plain": {"nameserver 10.255.255.53\n", nil, nil, nil,
			"options ndots:0\n\n# Based on host file: '/etc/resolv.conf' (internal resolver)\n# ExtServers: [host(10.255.255.53)]\n# Overrides: []\n# Option ndots from: internal\n", false},
		"resolved": {"nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n", nil, nil, nil,
			"search lan\noptions edns0 trust-ad ndots:0\n\n# Based on host file: '/etc/resolv.conf' (internal resolver)\n# ExtServers: [host(127.0.0.53)]\n# Overrides: []\n# Option ndots from: internal\n", false},
		"all set": {"nameserver 10.0.0.1\nsearch lan\noptions ndots:3\n", []string{"10.0.0.9", "fd00::9"}, []string{"a.b"}, []string{"ndots:2", "timeout:1"},
			"search a.b\noptions ndots:2 timeout:1\n\n# Based on host file: '/etc/resolv.conf' (internal resolver)\n# ExtServers: [10.0.0.9 fd00::9]\n# Overrides: [nameservers search options]\n# Option ndots from: override\n", true},
		"the host's ndots": {"search lan\noptions ndots:3\n", nil, []string{"."}, nil,
			"options ndots:3\n\n# Based on host file: '/etc/resolv.conf' (internal resolver)\n# ExtServers: []\n# Overrides: [search]\n# Option ndots from: host\n", true},
		"bad ndots": {"", nil, nil, []string{"ndots:x", "rotate"},
			"options rotate ndots:0\n\n# Based on host file: '/etc/resolv.conf' (internal resolver)\n# ExtServers: []\n# Overrides: [options]\n# Option ndots from: internal\n", false},
	} {
		got := ResolvInternal([]byte(tc.host), tc.dns, tc.search, tc.options)
		if want := head + "nameserver 127.0.0.11\n" + tc.lines; string(got.File) != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got.File, want)
		}
		if got.NDots != tc.ndots || !slices.Equal(got.Servers, tc.dns) {
			t.Errorf("%s: ndots %v, servers %q", name, got.NDots, got.Servers)
		}
		if !strings.HasSuffix(string(got.File), "\n") {
			t.Errorf("%s: no end of line", name)
		}
	}
}
