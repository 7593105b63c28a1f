package engine

import (
	"net/netip"
	"sync"

	nets "lade/internal/network"
)

// lastAddresses remembers which addresses a container had when it ended, so that it
// gets them again if nobody has taken them: who has looked its name up once,
// as nginx does with its upstreams, finds it after a restart. An engine that is
// started again has forgotten those of containers that do not run.
type lastAddresses struct {
	mu sync.Mutex
	by map[string]map[string][]netip.Addr // container id → network
}

// keep notes the endpoints of a container that has ended.
func (a *lastAddresses) keep(id string, eps []*nets.Endpoint) {
	had := map[string][]netip.Addr{}
	for _, ep := range eps {
		for _, p := range []netip.Prefix{ep.IPv4, ep.IPv6} {
			if p.IsValid() {
				had[ep.NetworkName] = append(had[ep.NetworkName], p.Addr())
			}
		}
	}
	if len(had) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.by == nil {
		a.by = map[string]map[string][]netip.Addr{}
	}
	a.by[id] = had
}

// of returns what a container had in a network.
func (a *lastAddresses) of(id, network string) []netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.by[id][network]
}

// forget drops a removed container.
func (a *lastAddresses) forget(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.by, id)
}
