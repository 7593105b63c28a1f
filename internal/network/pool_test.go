package network

import (
	"testing"

	"lade/internal/linux/netlink"
)

// TestOwnPrefix checks that a process shares no names with the links that are
// there, whatever chance says.
func TestOwnPrefix(t *testing.T) {
	engine := LinkPrefix("docker0")
	links := []netlink.Link{{Name: "lo"}, {Name: engine + letters(1)[:3] + "aaaaa"}, {Name: engine + letters(2)[:3] + "baaaa"}}
	drawn := uint32(0)
	got := ownPrefix(engine, links, func() uint32 { drawn++; return drawn })
	if want := engine + letters(3)[:3]; got != want || drawn != 3 {
		t.Errorf("%q after %d draws, want %q", got, drawn, want)
	}
	seen := map[string]bool{}
	for n := range uint32(1 << 16) { // the names of one process
		seen[letters(n)[:5]] = true
	}
	if len(seen) != 1<<16 {
		t.Errorf("%d names of %d links", len(seen), 1<<16)
	}
}
