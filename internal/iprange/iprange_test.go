package iprange

import (
	"fmt"
	"net/netip"
	"testing"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.0/8": "10.0.0.0/8", "10.1.2.3/8": "10.0.0.0/8", "10.1.2.3": "10.1.2.3", "10.1.2.3/32": "10.1.2.3", "0.0.0.0/0": "0.0.0.0/0",
		"10.1.2.3-10.1.2.9": "10.1.2.3-10.1.2.9", "10.0.0.0-10.0.0.255": "10.0.0.0/24", "::ffff:10.0.0.1": "10.0.0.1",
		"fd00::/8": "fd00::/8", "::1": "::1", "fe80::1-fe80::2": "fe80::1-fe80::2", "::/0": "::/0",
		"": "", "10": "", "10.0.0.0/33": "", "10.0.0.2-10.0.0.1": "", "10.0.0.1-::1": "", "fe80::1%lo": "", "a-b": "", "10.0.0.1-": "", "::ffff:10.0.0.0/104": "",
	} {
		r, err := Parse(in)
		if (err != nil) != (want == "") || err == nil && r.String() != want {
			t.Errorf("%q: %v, %v; want %q", in, r, err, want)
		}
	}
}

func TestMerge(t *testing.T) {
	var all []Range
	for _, s := range []string{"fd00::/8", "10.0.2.0/24", "10.0.0.0/24", "10.0.1.0/24", "10.0.0.5", "255.255.255.0/24", "255.255.255.255", "192.168.1.1-192.168.1.9", "192.168.1.5-192.168.1.20"} {
		r, err := Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	got := fmt.Sprint(Merge(all))
	if want := "[10.0.0.0-10.0.2.255 192.168.1.1-192.168.1.20 255.255.255.0/24 fd00::/8]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestContains(t *testing.T) {
	r, _ := Parse("10.0.0.0/8")
	for a, want := range map[string]bool{"10.0.0.0": true, "10.255.255.255": true, "11.0.0.0": false, "::ffff:10.1.1.1": true, "::1": false} {
		if got := r.Contains(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %v", a, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("10.0.0.0/8")
	f.Add("fd00::1-fd00::9")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		if err != nil {
			return
		}
		if again, err := Parse(r.String()); err != nil || again != r {
			t.Errorf("%q: %v, then %v, %v", s, r, again, err)
		}
	})
}
