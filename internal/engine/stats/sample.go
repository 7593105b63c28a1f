package stats

import (
	apicontainer "github.com/moby/moby/api/types/container"

	"lade/internal/linux/cgroup"
)

// Sample is Docker's, with what lade tells beyond it.
type Sample struct {
	*apicontainer.StatsResponse
	Pressure *Pressure `json:"pressure,omitempty"`  // nil where the kernel says nothing
	NetRates *NetRates `json:"net_rates,omitempty"` // nil without limits
}

// Pressure tells how long processes of the container had to wait for something,
// as the kernel's pressure stall information has it.
//
// Source: Documentation/accounting/psi.rst.
type Pressure struct {
	CPU    *Stall `json:"cpu,omitempty"`
	Memory *Stall `json:"memory,omitempty"`
	IO     *Stall `json:"io,omitempty"`
}

// Stall is the wait for one thing: of some process, and of all at a time.
type Stall struct {
	Some Share `json:"some"`
	Full Share `json:"full"`
}

// Share is the share of time, in percent, of the last 10, 60 and 300 seconds,
// and the whole time in microseconds.
type Share struct {
	Avg10  float64 `json:"avg10"`
	Avg60  float64 `json:"avg60"`
	Avg300 float64 `json:"avg300"`
	Total  uint64  `json:"total"`
}

func pressure(p cgroup.Pressure) *Pressure {
	if p == (cgroup.Pressure{}) {
		return nil
	}
	return &Pressure{CPU: stall(p.CPU), Memory: stall(p.Memory), IO: stall(p.IO)}
}

func stall(p *cgroup.PSI) *Stall {
	if p == nil {
		return nil
	}
	return &Stall{Some: Share(p.Some), Full: Share(p.Full)}
}
