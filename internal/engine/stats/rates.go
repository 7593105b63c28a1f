package stats

import (
	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/netrate"
	"lade/internal/network"
)

// NetRates are the limits of a container's network and what they did; nil for a
// direction without.
type NetRates struct {
	In  *NetRate `json:"in,omitempty"`
	Out *NetRate `json:"out,omitempty"`
}

// NetRate is one direction's.
type NetRate struct {
	Rate       netrate.Bits `json:"rate"`       // bits per second
	Burst      int64        `json:"burst"`      // bytes
	Backlog    uint64       `json:"backlog"`    // bytes that wait
	Dropped    uint64       `json:"dropped"`    // packets
	Overlimits uint64       `json:"overlimits"` // how often a packet had to wait
}

// netRates reads the counters of a container's limits, or of those of the one
// whose network it joined; nil without limits.
func (p *Sampler) netRates(r *container.Record) (*NetRates, error) {
	owner, err := p.networkOwner(r)
	if err != nil {
		return nil, nil // it is gone, and its network with it
	}
	in, out, err := p.network.Shaping(owner)
	if errdefs.KindOf(err) == errdefs.NotFound { // it has none of its own, or ended
		return nil, nil
	}
	if err != nil || in == nil && out == nil {
		return nil, err
	}
	return &NetRates{In: netRate(in), Out: netRate(out)}, nil
}

func netRate(s *network.Shaped) *NetRate {
	if s == nil {
		return nil
	}
	return &NetRate{Rate: s.Rate, Burst: s.Burst, Backlog: s.Backlog, Dropped: s.Dropped, Overlimits: s.Overlimits}
}
