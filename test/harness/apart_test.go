package harness

import (
	"fmt"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/need"
)

// TestApart has more processes than there were blocks of eight for: none of them
// shares one with another as long as there is one.
func TestApart(t *testing.T) {
	const of = 30
	owner := map[int]int{}
	claim := func(b *blocks, process int) (n int) {
		n = b.take()
		if p, ok := owner[n]; ok && p != process {
			t.Errorf("processes %d and %d share block %d", p, process, n)
		}
		owner[n] = process
		return n
	}
	var all []*blocks
	for process := range 14 { // 2 each are 28
		b := &blocks{name: fmt.Sprintf("@lade-test/of-%d-", os.Getpid()) + "%d", of: of, most: 8}
		all = append(all, b)
		if first, second := claim(b, process), claim(b, process); first == second {
			t.Errorf("process %d: two engines share a block", process)
		}
	}
	t.Cleanup(func() {
		for _, b := range all {
			for _, l := range b.claims {
				l.Close()
			}
		}
	})
	for range 10 { // takes the last two, and then its own in turn
		claim(all[0], 0)
	}
	if len(owner) != of || len(all[0].own) != 4 {
		t.Errorf("%d blocks of %d; the first has %v", len(owner), of, all[0].own)
	}
	for _, l := range all[13].claims { // that process ends
		l.Close()
	}
	all[13].claims = nil
	for _, n := range all[13].own {
		delete(owner, n)
	}
	claim(all[1], 1)
	claim(all[2], 2)
}

// TestLinked: a block of which a link has an address is passed over.
func TestLinked(t *testing.T) {
	need.Root(t)
	ns, err := netns.New(func(*os.File) error {
		c, err := netlink.Dial(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer c.Close()
		var r netlink.Request
		r.AddAddr(1, netip.MustParsePrefix("198.18.68.1/22")) // of 17
		if err := c.Do(&r); err != nil {
			return err
		}
		b := &blocks{name: apart.name, of: 64, most: 8, taken: linked} // names of sockets belong to the namespace
		if first, second := b.take(), b.take(); first != 16 || second != 18 {
			t.Errorf("blocks %d and %d are taken", first, second)
		}
		for _, l := range b.claims {
			l.Close()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ns.Close()
}
