package systemd

import (
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/linux/cgroup"
)

// property is one property of a unit: (sv).
type property struct {
	Name  string
	Value dbus.Variant
}

// auxiliary is a unit that is started with another: (sa(sv)). We have none.
type auxiliary struct {
	Name       string
	Properties []property
}

func prop(name string, v any) property { return property{name, dbus.MakeVariant(v)} }

// limit is a number where a negative one means none.
func limit(n int64) uint64 {
	if n < 0 {
		return math.MaxUint64
	}
	return uint64(n)
}

// properties are the limits that systemd knows, by the names of the host's
// version of control groups. What it has no property for is in the group's
// files alone.
//
// Source: systemd.resource-control(5).
func properties(r *specs.LinuxResources, h *cgroup.Host) (all []property) {
	if r == nil {
		return nil
	}
	if h.Version() == cgroup.V2 {
		all = unified(r)
	} else {
		all = legacy(r)
	}
	if c := r.CPU; c != nil {
		all = append(all, bandwidth(c)...)
	}
	if p := r.Pids; p != nil && p.Limit != nil {
		n := *p.Limit
		if n == 0 { // which systemd does not take; no process can be made either way
			n = 1
		}
		all = append(all, prop("TasksMax", limit(n)))
	}
	return all
}

func unified(r *specs.LinuxResources) (all []property) {
	if m := r.Memory; m != nil {
		if m.Limit != nil && *m.Limit != 0 {
			all = append(all, prop("MemoryMax", limit(*m.Limit)))
		}
		if m.Reservation != nil && *m.Reservation != 0 {
			all = append(all, prop("MemoryLow", limit(*m.Reservation)))
		}
		switch {
		case m.Swap == nil || *m.Swap == 0:
		case *m.Swap < 0:
			all = append(all, prop("MemorySwapMax", limit(-1)))
		case m.Limit != nil && *m.Limit > 0 && *m.Swap >= *m.Limit:
			all = append(all, prop("MemorySwapMax", uint64(*m.Swap-*m.Limit)))
		}
	}
	if c := r.CPU; c != nil {
		if c.Shares != nil && *c.Shares != 0 {
			all = append(all, prop("CPUWeight", cgroup.WeightOfShares(*c.Shares)))
		}
		for name, list := range map[string]string{"AllowedCPUs": c.Cpus, "AllowedMemoryNodes": c.Mems} {
			if set, ok := bits(list); ok {
				all = append(all, prop(name, set))
			}
		}
	}
	if b := r.BlockIO; b != nil && b.Weight != nil && *b.Weight != 0 {
		all = append(all, prop("IOWeight", uint64(*b.Weight)))
	}
	return all
}

func legacy(r *specs.LinuxResources) (all []property) {
	if m := r.Memory; m != nil && m.Limit != nil && *m.Limit != 0 {
		all = append(all, prop("MemoryLimit", limit(*m.Limit)))
	}
	if c := r.CPU; c != nil && c.Shares != nil && *c.Shares != 0 {
		all = append(all, prop("CPUShares", *c.Shares))
	}
	if b := r.BlockIO; b != nil && b.Weight != nil && *b.Weight != 0 {
		all = append(all, prop("BlockIOWeight", uint64(*b.Weight)))
	}
	return all
}

// bandwidth is the time that a group may use: in a second, to 10 ms, as systemd
// counts it, and the period.
func bandwidth(c *specs.LinuxCPU) (all []property) {
	if c.Period != nil && *c.Period != 0 {
		all = append(all, prop("CPUQuotaPeriodUSec", *c.Period))
	}
	if c.Quota == nil || *c.Quota == 0 {
		return all
	}
	if *c.Quota < 0 {
		return append(all, prop("CPUQuotaPerSecUSec", limit(-1)))
	}
	period := uint64(100000)
	if c.Period != nil && *c.Period != 0 {
		period = *c.Period
	}
	const tick = 10000
	perSecond := uint64(*c.Quota) * 1e6 / period
	return append(all, prop("CPUQuotaPerSecUSec", (perSecond+tick-1)/tick*tick))
}

// bits is a list such as "0-2,7" as a set: bit n%8 of byte n/8 is n.
func bits(list string) ([]byte, bool) {
	if list == "" {
		return nil, false
	}
	set := new(big.Int)
	for part := range strings.SplitSeq(strings.TrimSpace(list), ",") {
		from, to, ranged := strings.Cut(part, "-")
		if !ranged {
			to = from
		}
		a, err1 := strconv.Atoi(from)
		b, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil || a < 0 || b < a || b > 8191 {
			return nil, false // the kernel is going to refuse it
		}
		for ; a <= b; a++ {
			set.SetBit(set, a, 1)
		}
	}
	bytes := set.Bytes() // most significant first
	for i, j := 0, len(bytes)-1; i < j; i, j = i+1, j-1 {
		bytes[i], bytes[j] = bytes[j], bytes[i]
	}
	return bytes, true
}

// devices are the rules for devices where they are those of version 1, whose
// file systemd writes anew when it is reloaded. In version 2 the rules are a
// program, which systemd leaves alone.
func devices(r *specs.LinuxResources, h *cgroup.Host) []property {
	if r == nil || h.Version() == cgroup.V2 || len(r.Devices) == 0 {
		return nil
	}
	type rule struct{ Path, Access string }
	allowed := []rule{}
	strict := true
	for _, d := range r.Devices {
		kind := map[string]string{"c": "char", "u": "char", "b": "block"}[d.Type]
		access := d.Access
		if access == "" {
			access = "rwm"
		}
		switch {
		case kind == "": // all devices
			allowed, strict = allowed[:0], !d.Allow
		case !d.Allow:
		case d.Major == nil:
			allowed = append(allowed, rule{kind + "-*", access})
		case d.Minor == nil:
			allowed = append(allowed, rule{kind + "-" + strconv.FormatInt(*d.Major, 10), access})
		default:
			allowed = append(allowed, rule{"/dev/" + kind + "/" + strconv.FormatInt(*d.Major, 10) + ":" + strconv.FormatInt(*d.Minor, 10), access})
		}
	}
	if !strict {
		return []property{prop("DevicePolicy", "auto")}
	}
	return []property{prop("DevicePolicy", "strict"), prop("DeviceAllow", allowed)}
}
