package netrate

import (
	"maps"
	"math"
	"strconv"

	"github.com/docker/go-units"

	"lade/internal/errdefs"
)

// Limits bound the traffic of one interface, seen from the container. The zero
// value is no limit.
type Limits struct {
	In    Bits  `json:"in,omitempty"`    // what the container receives
	Out   Bits  `json:"out,omitempty"`   // what it sends
	Burst int64 `json:"burst,omitempty"` // bytes, of either direction; 0: as the rate needs
}

// Any reports whether a direction is limited.
func (l Limits) Any() bool { return l.In != 0 || l.Out != 0 }

// Asked returns a request for exactly these limits.
func (l Limits) Asked() Asked { return Asked{&l.In, &l.Out, &l.Burst} }

// Options returns the limits by the names below, as a network's options. What
// is not limited has none.
func (l Limits) Options() map[string]string {
	o := l.Asked().AsAnnotations()
	maps.DeleteFunc(o, func(_, value string) bool { return value == "0" })
	return o
}

// Asked are lade's own fields of the Docker API's HostConfig and UpdateConfig:
// bits per second and bytes. A field that is nil was not asked for: create
// takes the network's default, update leaves what there is. A rate of 0 is no
// limit, whatever the network's default says.
type Asked struct {
	NetRateIn  *Bits  `json:",omitempty"`
	NetRateOut *Bits  `json:",omitempty"`
	NetBurst   *int64 `json:",omitempty"`
}

// Any reports whether a rate other than 0 is asked for.
func (a Asked) Any() bool {
	return a.NetRateIn != nil && *a.NetRateIn != 0 || a.NetRateOut != nil && *a.NetRateOut != 0
}

// Over returns what is asked for after a, where that says nothing, before.
func (a Asked) Over(before Asked) Asked {
	return Asked{or(a.NetRateIn, before.NetRateIn), or(a.NetRateOut, before.NetRateOut), or(a.NetBurst, before.NetBurst)}
}

// Limits returns what is asked for, and the network's own limits for the rest.
func (a Asked) Limits(network Limits) Limits {
	return Limits{In: *or(a.NetRateIn, &network.In), Out: *or(a.NetRateOut, &network.Out), Burst: *or(a.NetBurst, &network.Burst)}
}

func or[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

// The names of annotations and network options that ask for limits: what a
// client sends that knows nothing of lade's fields.
const (
	InName    = "lade.net-rate-in"
	OutName   = "lade.net-rate-out"
	BurstName = "lade.net-burst"
)

// AsAnnotations returns what FromAnnotations reads.
func (a Asked) AsAnnotations() map[string]string {
	m := map[string]string{}
	if a.NetRateIn != nil {
		m[InName] = a.NetRateIn.String()
	}
	if a.NetRateOut != nil {
		m[OutName] = a.NetRateOut.String()
	}
	if a.NetBurst != nil {
		m[BurstName] = strconv.FormatInt(*a.NetBurst, 10)
	}
	return m
}

// FromAnnotations reads what annotations ask for. Errors: Invalid.
func FromAnnotations(all map[string]string) (a Asked, err error) {
	rate := func(name string) *Bits {
		s, ok := all[name]
		if !ok || err != nil {
			return nil
		}
		var b Bits
		if err = b.Set(s); err != nil {
			err = errdefs.Invalidf("annotation %s: %w", name, err)
		}
		return &b
	}
	a.NetRateIn, a.NetRateOut = rate(InName), rate(OutName)
	if s, ok := all[BurstName]; ok && err == nil {
		var b int64
		if b, err = ParseBurst(s); err != nil {
			err = errdefs.Invalidf("annotation %s: %w", BurstName, err)
		}
		a.NetBurst = &b
	}
	if err != nil {
		return Asked{}, err
	}
	return a, nil
}

// ParseBurst reads a number of bytes with Docker's units: "64k". Errors: Invalid.
func ParseBurst(s string) (int64, error) {
	n, err := units.RAMInBytes(s)
	if err != nil || n < 0 || n > math.MaxUint32 {
		return 0, errdefs.Invalidf("invalid network burst %q: a number of bytes below 4g is needed, as in 64k", s)
	}
	return n, nil
}

// Check refuses limits that cannot be kept on an interface with an MTU, in
// bytes: a burst must hold a whole frame. Errors: Invalid.
func (l Limits) Check(mtu int) error {
	for _, b := range []Bits{l.In, l.Out} {
		if err := b.check(b.String()); err != nil {
			return err
		}
	}
	if least := int64(mtu + FrameHeader); l.Burst != 0 && (l.Burst < least || l.Burst > math.MaxUint32) {
		return errdefs.Invalidf("invalid network burst %d: it must be between %d bytes, a full packet, and 4 GB, or 0 for one that fits the rate", l.Burst, least)
	}
	return nil
}

// FrameHeader is what Ethernet adds to a packet: addresses, a VLAN tag, the type.
const FrameHeader = 18
