package systemd

import (
	"fmt"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func show(all []property) string {
	var b strings.Builder
	for _, p := range all {
		fmt.Fprintf(&b, "%s=%s ", p.Name, p.Value)
	}
	return strings.TrimSpace(b.String())
}

func TestProperties(t *testing.T) {
	for _, tc := range []struct {
		r    specs.LinuxResources
		want string // of version 2
		v1   string
	}{
		{r: specs.LinuxResources{}},
		{r: specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(64)), Swap: new(int64(96)), Reservation: new(int64(8))}},
			want: "MemoryMax=@t 64 MemoryLow=@t 8 MemorySwapMax=@t 32", v1: "MemoryLimit=@t 64"},
		{r: specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(-1)), Swap: new(int64(-1))}},
			want: "MemoryMax=@t 18446744073709551615 MemorySwapMax=@t 18446744073709551615", v1: "MemoryLimit=@t 18446744073709551615"},
		{r: specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: new(uint64(1024))}}, want: "CPUWeight=@t 100", v1: "CPUShares=@t 1024"},
		{r: specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "0,2-3,9"}}, want: "AllowedCPUs=@ay [0xd, 0x2]"},
		{r: specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: new(uint16(300))}}, want: "IOWeight=@t 300", v1: "BlockIOWeight=@t 300"},
	} {
		if got := show(unified(&tc.r)); got != tc.want {
			t.Errorf("version 2: %q, want %q", got, tc.want)
		}
		if got := show(legacy(&tc.r)); got != tc.v1 {
			t.Errorf("version 1: %q, want %q", got, tc.v1)
		}
	}
	for _, tc := range []struct {
		c    specs.LinuxCPU
		want string
	}{
		{specs.LinuxCPU{Quota: new(int64(50000)), Period: new(uint64(100000))}, "CPUQuotaPeriodUSec=@t 100000 CPUQuotaPerSecUSec=@t 500000"},
		{specs.LinuxCPU{Quota: new(int64(12345))}, "CPUQuotaPerSecUSec=@t 130000"}, // 123450 µs a second, to 10 ms
		{specs.LinuxCPU{Quota: new(int64(-1))}, "CPUQuotaPerSecUSec=@t 18446744073709551615"},
	} {
		if got := show(bandwidth(&tc.c)); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
	for _, bad := range []string{"", "x", "3-1", "99999", "-1"} {
		if set, ok := bits(bad); ok {
			t.Errorf("%q: %v", bad, set)
		}
	}
}
