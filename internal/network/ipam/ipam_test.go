package ipam

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"

	"lade/internal/errdefs"
)

// TestModel runs random operations against a map of what is in use.
func TestModel(t *testing.T) {
	for _, tc := range []struct{ subnet, within string }{
		{"10.1.2.0/24", ""}, {"10.1.0.0/16", "10.1.3.128/25"}, {"192.168.5.0/29", ""}, {"10.0.0.0/30", ""},
		{"10.0.0.0/31", ""}, {"10.9.0.0/22", "10.9.2.0/26"},
	} {
		t.Run(tc.subnet+" "+tc.within, func(t *testing.T) {
			subnet, within := netip.MustParsePrefix(tc.subnet), netip.MustParsePrefix(tc.subnet)
			var opt netip.Prefix
			if tc.within != "" {
				within = netip.MustParsePrefix(tc.within)
				opt = within
			}
			a, err := New(subnet, opt)
			if err != nil {
				t.Fatal(err)
			}
			model := map[netip.Addr]bool{}
			usable := 0
			for ip := within.Addr(); within.Contains(ip); ip = ip.Next() {
				if subnet.Bits() < 31 && (ip == subnet.Addr() || ip == Last(subnet)) {
					continue
				}
				usable++
			}
			rnd := rand.New(rand.NewPCG(1, uint64(subnet.Bits())))
			for range 20000 {
				ip := addr(number(within.Addr()) + rnd.Uint32N(uint32(1)<<(32-within.Bits())))
				switch rnd.IntN(5) {
				case 0, 1:
					got, err := a.Next()
					if len(model) == usable {
						if !errors.Is(err, errdefs.Exhausted) {
							t.Fatalf("Next() of a full range = %v, %v", got, err)
						}
						continue
					}
					if err != nil || model[got] || !within.Contains(got) {
						t.Fatalf("Next() = %v, %v; in use: %v", got, err, model[got])
					}
					model[got] = true
				case 2:
					reserved := subnet.Bits() < 31 && (ip == subnet.Addr() || ip == Last(subnet))
					err := a.Take(ip)
					if (err == nil) != (!model[ip] && !reserved) {
						t.Fatalf("Take(%v) = %v; in use: %v", ip, err, model[ip])
					}
					if err == nil {
						model[ip] = true
					}
				default:
					if model[ip] {
						a.Release(ip)
						delete(model, ip)
					}
				}
			}
		})
	}
}

// TestRest checks that an address is given again only after all others.
func TestRest(t *testing.T) {
	a, err := New(netip.MustParsePrefix("10.0.0.0/28"), netip.Prefix{})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[netip.Addr]bool{}
	for range 14 {
		ip, err := a.Next()
		if err != nil || seen[ip] {
			t.Fatalf("Next() = %v, %v: seen %v", ip, err, seen[ip])
		}
		seen[ip] = true
		a.Release(ip)
	}
	if ip, _ := a.Next(); ip != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("after a round: %v", ip)
	}
}

func TestInvalid(t *testing.T) {
	for _, tc := range [][2]string{{"fd00::/64", ""}, {"10.0.0.0/24", "10.0.1.0/25"}, {"10.0.0.0/24", "10.0.0.0/16"}, {"0.0.0.0/0", ""}} {
		var within netip.Prefix
		if tc[1] != "" {
			within = netip.MustParsePrefix(tc[1])
		}
		if _, err := New(netip.MustParsePrefix(tc[0]), within); !errors.Is(err, errdefs.Invalid) {
			t.Errorf("New(%v) = %v", tc, err)
		}
	}
	a, _ := New(netip.MustParsePrefix("10.0.0.0/24"), netip.Prefix{})
	if err := a.Take(netip.MustParseAddr("10.0.1.1")); !errors.Is(err, errdefs.Invalid) {
		t.Errorf("Take outside = %v", err)
	}
}

func TestChoose(t *testing.T) {
	var taken []netip.Prefix
	for range 31 {
		p, err := Choose(Defaults(), taken)
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, p)
	}
	if taken[0].String() != "172.17.0.0/16" || taken[30].String() != "192.168.240.0/20" {
		t.Errorf("first %v, last %v", taken[0], taken[30])
	}
	if _, err := Choose(Defaults(), taken); !errors.Is(err, errdefs.Exhausted) {
		t.Errorf("Choose of nothing = %v", err)
	}
	if p, _ := Choose(Defaults(), []netip.Prefix{netip.MustParsePrefix("172.17.3.0/24"), netip.MustParsePrefix("172.18.9.9/32")}); p.String() != "172.19.0.0/16" {
		t.Errorf("Choose = %v", p)
	}
}

// TestSparse gives out all of a small range of a large subnet, twice.
func TestSparse(t *testing.T) {
	s, err := NewSparse(netip.MustParsePrefix("fd00::/64"), netip.MustParsePrefix("fd00::/126"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Take(netip.MustParseAddr("fd00::2")); err != nil {
		t.Error(err)
	}
	if err := s.Take(netip.MustParseAddr("fd00::2")); !errors.Is(err, errdefs.Forbidden) {
		t.Errorf("Take of what is taken = %v", err)
	}
	if err := s.Take(netip.MustParseAddr("fd00:0:0:1::2")); !errors.Is(err, errdefs.Invalid) {
		t.Errorf("Take outside = %v", err)
	}
	for range 2 {
		for _, want := range []string{"fd00::1", "fd00::3"} {
			if ip, err := s.Next(); err != nil || ip.String() != want {
				t.Errorf("Next() = %v, %v, want %s", ip, err, want)
			}
		}
		if ip, err := s.Next(); !errors.Is(err, errdefs.Exhausted) {
			t.Errorf("Next() of a full range = %v, %v", ip, err)
		}
		s.Release(netip.MustParseAddr("fd00::"))
		s.Release(netip.MustParseAddr("fd00::1"))
		s.Release(netip.MustParseAddr("fd00::3"))
	}
}

// TestChoosePools cuts subnets from pools of one's own, past what is larger and
// what is smaller than a subnet.
func TestChoosePools(t *testing.T) {
	pools := []Pool{{netip.MustParsePrefix("10.10.0.0/22"), 24}, {netip.MustParsePrefix("fd00::/48"), 64}}
	taken := []netip.Prefix{netip.MustParsePrefix("10.10.0.7/32"), netip.MustParsePrefix("10.10.2.0/23")}
	for _, want := range []string{"10.10.1.0/24", "fd00::/64", "fd00:0:0:1::/64"} {
		p, err := Choose(pools, taken)
		if err != nil || p.String() != want {
			t.Errorf("Choose = %v, %v, want %s", p, err, want)
		}
		taken = append(taken, p)
	}
	if _, err := Choose([]Pool{{netip.MustParsePrefix("255.255.255.0/24"), 24}}, []netip.Prefix{netip.MustParsePrefix("255.255.0.0/16")}); !errors.Is(err, errdefs.Exhausted) {
		t.Errorf("Choose at the end of all addresses = %v", err)
	}
}
