package harness

import (
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
)

// Apart returns flags for an engine that runs beside others. Left alone, each
// looks for networks that nobody on the host has, which two may do at the same
// moment, or while one is down whose networks return. 198.18.0.0/15 is for
// tests (RFC 2544), a sixty-fourth of it for each engine.
func Apart() []string {
	n := apart.take()
	return []string{fmt.Sprintf("--bip=198.18.%d.1/22", n*4), fmt.Sprintf("--default-address-pool=base=198.19.%d.0/22,size=26", n*4)}
}

// apart are those of this process. It claims another one for each engine, up to as
// many as it may run at a time, so that processes with an engine or two leave room
// for tens of them.
var apart = blocks{name: "@lade-test/apart-%d", of: 64, most: 8, taken: linked}

// linked reports whether a link of the host has an address of an engine's part: one
// whose test was killed has left its bridge, to which the host would send what is for
// another one.
func linked(n int) bool {
	addrs, _ := net.InterfaceAddrs()
	return slices.ContainsFunc(addrs, func(a net.Addr) bool {
		ip, _ := a.(*net.IPNet)
		if ip == nil || ip.IP.To4() == nil {
			return false
		}
		b := ip.IP.To4()
		return b[0] == 198 && (b[1] == 18 || b[1] == 19) && int(b[2])/4 == n
	})
}

// blocks are what one process has of things that all processes of the machine share.
type blocks struct {
	name     string         // of the socket that is the claim to one
	of, most int            // how many there are, and how many a process may have
	taken    func(int) bool // whether the machine has one already; nil: it cannot

	mu     sync.Mutex
	own    []int
	claims []*net.UnixListener // a socket with a name goes with the process
	next   int                 // of own
}

// take returns the next block of this process: one more, or when it has as many as
// it may have, or nobody has left one, the one that it took the longest time ago.
// Only a process that finds none at all shares one.
func (b *blocks) take() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.own) < b.most {
		for k := range b.of {
			i := (k + 2*b.most) % b.of // what people start by hand is at the ends
			if b.taken != nil && b.taken(i) {
				continue
			}
			if l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fmt.Sprintf(b.name, i), Net: "unix"}); err == nil {
				b.own, b.claims = append(b.own, i), append(b.claims, l)
				return i
			}
		}
	}
	if len(b.own) == 0 {
		return os.Getpid() % b.of
	}
	b.next++
	return b.own[(b.next-1)%len(b.own)]
}
