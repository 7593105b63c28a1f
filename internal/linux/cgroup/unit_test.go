package cgroup

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
)

// fake makes a directory tree that looks like a host with the given
// hierarchies: a v1 one per name, and "v2: controllers…".
func fake(t *testing.T, hierarchies ...string) (*Host, string) {
	t.Helper()
	dir := t.TempDir()
	var found []*hierarchy
	for _, name := range hierarchies {
		controllers, v2 := strings.CutPrefix(name, "v2:")
		m := &hierarchy{mount: filepath.Join(dir, strings.Fields(name + " x")[0]), v2: v2}
		if v2 {
			m.mount = filepath.Join(dir, "unified")
			write(t, filepath.Join(m.mount, "cgroup.controllers"), controllers+"\n")
			write(t, filepath.Join(m.mount, "cgroup.subtree_control"), "")
		} else {
			m.controllers = strings.Split(name, ",")
			if err := os.MkdirAll(m.mount, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		found = append(found, m)
	}
	h, err := newHost(found)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h, dir
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func u(v uint64) *uint64 { return &v }

// everything is a request with every limit.
func everything() *specs.LinuxResources {
	sda := specs.LinuxBlockIODevice{Major: 8, Minor: 0}
	rate := func(n uint64) []specs.LinuxThrottleDevice {
		return []specs.LinuxThrottleDevice{{LinuxBlockIODevice: sda, Rate: n}}
	}
	return &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: n(100), Swap: n(300), Reservation: n(50), Swappiness: u(10), DisableOOMKiller: new(true)},
		CPU:    &specs.LinuxCPU{Shares: u(1024), Quota: n(50000), Period: u(100000), Burst: u(10), Cpus: "0-1", Mems: "0"},
		Pids:   &specs.LinuxPids{Limit: n(7)},
		BlockIO: &specs.LinuxBlockIO{Weight: new(uint16(100)), WeightDevice: []specs.LinuxWeightDevice{{LinuxBlockIODevice: sda, Weight: new(uint16(1000))}},
			ThrottleReadBpsDevice: rate(1), ThrottleWriteBpsDevice: rate(2), ThrottleReadIOPSDevice: rate(3), ThrottleWriteIOPSDevice: rate(4)},
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}},
		Rdma:           map[string]specs.LinuxRdma{"mlx5_1": {HcaHandles: new(uint32(2)), HcaObjects: new(uint32(3))}},
	}
}

func listed(t *testing.T, h *Host, r *specs.LinuxResources) (out []string) {
	t.Helper()
	p, err := h.plan(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range p.settings {
		out = append(out, s.file+" "+s.value)
	}
	return out
}

func TestPlanV1(t *testing.T) {
	h, _ := fake(t, "memory", "cpu,cpuacct", "cpuset", "pids", "blkio", "hugetlb", "rdma", "devices")
	want := []string{
		"memory.limit_in_bytes 100", "memory.memsw.limit_in_bytes 300", "memory.soft_limit_in_bytes 50", "memory.oom_control 1", "memory.swappiness 10",
		"cpu.shares 1024", "cpu.cfs_period_us 100000", "cpu.cfs_quota_us 50000", "cpu.cfs_burst_us 10", "cpuset.cpus 0-1", "cpuset.mems 0", "pids.max 7",
		"blkio.weight 100", "blkio.weight_device 8:0 1000", "blkio.throttle.read_bps_device 8:0 1", "blkio.throttle.write_bps_device 8:0 2",
		"blkio.throttle.read_iops_device 8:0 3", "blkio.throttle.write_iops_device 8:0 4",
		"hugetlb.2MB.limit_in_bytes 4194304", "hugetlb.2MB.rsvd.limit_in_bytes 4194304", "rdma.max mlx5_1 hca_handle=2 hca_object=3",
	}
	if diff := cmp.Diff(want, listed(t, h, everything())); diff != "" {
		t.Error(diff)
	}
	if h.Version() != V1 {
		t.Error(h.Version())
	}
}

func TestPlanV2(t *testing.T) {
	h, _ := fake(t, "v2:cpu cpuset io memory pids hugetlb rdma")
	r := everything()
	r.Unified = map[string]string{"memory.high": "90", "cgroup.max.descendants": "5"}
	want := []string{
		"memory.swap.max 200", "memory.max 100", "memory.low 50", "cpu.weight 100", "cpu.max 50000 100000", "cpu.max.burst 10",
		"cpuset.cpus 0-1", "cpuset.mems 0", "pids.max 7", "io.bfq.weight default 100", "io.bfq.weight 8:0 1000",
		"io.max 8:0 rbps=1", "io.max 8:0 wbps=2", "io.max 8:0 riops=3", "io.max 8:0 wiops=4",
		"hugetlb.2MB.max 4194304", "hugetlb.2MB.rsvd.max 4194304", "rdma.max mlx5_1 hca_handle=2 hca_object=3",
		"cgroup.max.descendants 5", "memory.high 90",
	}
	if diff := cmp.Diff(want, listed(t, h, r)); diff != "" {
		t.Error(diff)
	}
	if h.Version() != V2 {
		t.Error(h.Version())
	}
}

func TestConversions(t *testing.T) {
	for shares, want := range map[uint64]uint64{0: 0, 1: 1, 2: 1, 1024: 100, 262144: 10000, 1 << 40: 10000} {
		if got := WeightOfShares(shares); got != want {
			t.Errorf("WeightOfShares(%d) = %d, want %d", shares, got, want)
		}
	}
	for last, s := uint64(0), uint64(2); s < 262144; s += 97 {
		w := WeightOfShares(s)
		if w < last || w < 1 || w > 10000 {
			t.Fatalf("WeightOfShares(%d) = %d after %d", s, w, last)
		}
		last = w
	}
	if got := ioWeight("default", 1000); got.altValue != "default 10000" {
		t.Error(got)
	}
	if got := ioWeight("8:0", 10); got.altValue != "8:0 1" {
		t.Error(got)
	}
	h, _ := fake(t, "v2:cpu memory pids io")
	for _, tc := range []struct {
		r    specs.LinuxResources
		want string
	}{
		{specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: n(-1)}}, "memory.swap.max max,memory.max max"},
		{specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: n(5)}}, "memory.max 5"},
		{specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: n(5), Swap: n(5)}}, "memory.swap.max 0,memory.max 5"},
		{specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: n(5), Swap: n(-1)}}, "memory.swap.max max,memory.max 5"},
		{specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: n(0), Swap: n(0), Reservation: n(0)}}, ""},
		{specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: n(-1)}}, "cpu.max max 100000"},
		{specs.LinuxResources{CPU: &specs.LinuxCPU{Period: u(5000)}}, "cpu.max max 5000"},
		{specs.LinuxResources{CPU: &specs.LinuxCPU{Idle: n(1), Shares: u(5)}}, "cpu.idle 1"},
		{specs.LinuxResources{Pids: &specs.LinuxPids{Limit: n(-1)}}, "pids.max max"},
		{specs.LinuxResources{Pids: &specs.LinuxPids{Limit: n(0)}}, "pids.max 1"},
		{specs.LinuxResources{Pids: &specs.LinuxPids{}}, ""},
		{specs.LinuxResources{}, ""},
	} {
		if got := strings.Join(listed(t, h, &tc.r), ","); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
}

func TestPlanErrors(t *testing.T) {
	v1, _ := fake(t, "memory", "cpu")
	v2, _ := fake(t, "v2:memory cpu")
	for what, tc := range map[string]struct {
		h *Host
		r specs.LinuxResources
	}{
		"no controller":       {v1, specs.LinuxResources{Pids: &specs.LinuxPids{Limit: n(3)}}},
		"no controller on v2": {v2, specs.LinuxResources{Pids: &specs.LinuxPids{Limit: n(3)}}},
		"swap without memory": {v2, specs.LinuxResources{Memory: &specs.LinuxMemory{Swap: n(3)}}},
		"swap below memory":   {v2, specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: n(4), Swap: n(3)}}},
		"swappiness":          {v1, specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: u(101)}}},
		"realtime on v2":      {v2, specs.LinuxResources{CPU: &specs.LinuxCPU{RealtimePeriod: u(1)}}},
		"unified on v1":       {v1, specs.LinuxResources{Unified: map[string]string{"memory.high": "1"}}},
		"unified path":        {v2, specs.LinuxResources{Unified: map[string]string{"../memory.high": "1"}}},
		"unified without dot": {v2, specs.LinuxResources{Unified: map[string]string{"memory": "1"}}},
		"unified without":     {v2, specs.LinuxResources{Unified: map[string]string{"io.max": "1"}}},
		"page size":           {v2, specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "../x"}}}},
		"device type":         {v2, specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Type: "x"}}}},
		"device access":       {v2, specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "x"}}}},
		"device number":       {v2, specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Major: n(-2)}}}},
	} {
		if _, err := tc.h.plan(&tc.r); !errors.Is(err, errdefs.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestFakeV2 walks through a version 2 host without a kernel behind it.
func TestFakeV2(t *testing.T) {
	h, dir := fake(t, "v2:cpu io memory pids")
	root := filepath.Join(dir, "unified")
	group := filepath.Join(root, "docker/x")
	for name, content := range map[string]string{
		"cgroup.subtree_control": "", "../cgroup.subtree_control": "",
		"memory.max": "", "memory.swap.max": "", "pids.max": "9\n", "pids.current": "3\n", "cpu.max": "", "io.weight": "", "memory.current": "4096\n",
		"memory.peak": "8192\n", "memory.swap.current": "1\n", "memory.stat": "anon 5\nfile 6\n", "memory.events": "low 0\nhigh 0\nmax 2\noom 1\noom_kill 1\n",
		"cpu.stat":        "usage_usec 10\nuser_usec 6\nsystem_usec 4\nnr_periods 5\nnr_throttled 2\nthrottled_usec 7\n",
		"io.stat":         "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n",
		"memory.pressure": "some avg10=1.50 avg60=0.00 avg300=0.00 total=12\nfull avg10=0.25 avg60=0.00 avg300=0.00 total=3\n",
		"cgroup.procs":    "12\n0\n13\n", "below/cgroup.procs": "14\n",
	} {
		write(t, filepath.Join(group, name), content)
	}
	g, err := h.Open("/docker/x")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: n(100), Swap: n(150)}, CPU: &specs.LinuxCPU{Quota: n(3), Period: u(4)},
		BlockIO: &specs.LinuxBlockIO{Weight: new(uint16(10))}}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"memory.max": "100", "memory.swap.max": "50", "cpu.max": "3 4", "io.weight": "default 1",
		"../cgroup.subtree_control": "+cpu +io +memory +pids", "../../cgroup.subtree_control": "+cpu +io +memory +pids", "cgroup.subtree_control": "",
	} {
		if b, err := os.ReadFile(filepath.Join(group, name)); err != nil || string(b) != want {
			t.Errorf("%s is %q, %v; want %q", name, b, err, want)
		}
	}
	s, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	want := &Stats{
		CPU: CPU{Usage: 10000, User: 6000, System: 4000, Periods: 5, ThrottledPeriods: 2, ThrottledTime: 7000},
		Memory: Memory{Usage: 4096, MaxUsage: 8192, Limit: 100, FailCount: 1, SwapUsage: 1, SwapLimit: 50, OOMKills: 1,
			Stat: map[string]uint64{"anon": 5, "file": 6}},
		Pids: Pids{3, 9},
		IO: []IO{{8, 0, "io.stat", "rbytes", 1}, {8, 0, "io.stat", "wbytes", 2}, {8, 0, "io.stat", "rios", 3}, {8, 0, "io.stat", "wios", 4},
			{8, 0, "io.stat", "dbytes", 0}, {8, 0, "io.stat", "dios", 0}},
		Pressure: Pressure{Memory: &PSI{PSILine{1.5, 0, 0, 12}, PSILine{0.25, 0, 0, 3}}},
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
	if pids, err := g.Pids(); err != nil || !slices.Equal(pids, []int{12, 13, 14}) {
		t.Errorf("Pids() = %v, %v", pids, err)
	}
	if k, err := g.OOMKills(); k != 1 || err != nil {
		t.Errorf("OOMKills() = %d, %v", k, err)
	}
	if err := g.Update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: n(100), CheckBeforeUpdate: new(true)}}); !errors.Is(err, errdefs.Invalid) {
		t.Errorf("a limit below what is in use: %v", err)
	}
	// A new group's files do not appear in a fake tree: the limit fails, and what
	// was made is removed.
	if _, err := h.Create("/docker/y", &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: n(3)}}); !errors.Is(err, errdefs.Invalid) {
		t.Errorf("Create: %v", err)
	}
	if _, err := os.Stat(filepath.Join(root, "docker/y")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a failed Create left its directory: %v", err)
	}
	if _, err := h.Open("/docker/y"); !errors.Is(err, errdefs.NotFound) {
		t.Error(err)
	}
}

func TestParseMounts(t *testing.T) {
	const info = `25 20 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
26 25 0:23 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
27 25 0:24 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
28 25 0:25 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
29 25 0:25 /docker/x /var/lib/x/sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct
30 25 0:26 / /sys/fs/odd\040name rw - cgroup cgroup rw,memory
garbage
31 25 - cgroup
`
	found := parseMounts(info)
	var got []string
	for _, m := range found {
		got = append(got, m.mount+" "+strings.Join(m.controllers, "+"))
	}
	want := []string{"/sys/fs/cgroup/unified ", "/sys/fs/cgroup/systemd ", "/sys/fs/cgroup/cpu,cpuacct cpu+cpuacct", "/sys/fs/odd name memory"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// randomRules makes rules over few devices, so that they meet.
func randomRules(r *rand.Rand) (list []specs.LinuxDeviceCgroup) {
	for range 1 + r.IntN(8) {
		d := specs.LinuxDeviceCgroup{Allow: r.IntN(3) > 0, Type: []string{"a", "b", "c", "c", "b", ""}[r.IntN(6)]}
		if r.IntN(3) > 0 {
			d.Major = n(int64(r.IntN(2)))
		}
		if r.IntN(3) > 0 {
			d.Minor = n(int64(r.IntN(2)))
		}
		for _, c := range "rwm" {
			if r.IntN(2) == 0 {
				d.Access += string(c)
			}
		}
		list = append(list, d)
	}
	return list
}

// allowed is the meaning of rules: for each access, the last rule that names
// the device and the access.
func allowed(p *devicePolicy, typ byte, major, minor int64, access uint8) bool {
	for bit := uint8(1); bit <= accessWrite; bit <<= 1 {
		if access&bit == 0 {
			continue
		}
		ok := false
		for _, r := range p.rules {
			if r.covers(deviceRule{typ: typ, major: major, minor: minor}) && r.access&bit != 0 {
				ok = r.allow
			}
		}
		if !ok {
			return false
		}
	}
	return true
}

// interpret runs a device program.
func interpret(t *testing.T, prog []insn, typ byte, major, minor int64, access uint8) bool {
	t.Helper()
	kind := uint64(1)
	if typ == 'c' {
		kind = 2
	}
	ctx := map[int16]uint64{0: uint64(access)<<16 | kind, 4: uint64(major), 8: uint64(minor)}
	var reg [10]uint64
	for pc := 0; pc < len(prog); pc++ {
		in := prog[pc]
		switch in.op {
		case opLoadWord:
			reg[in.dst] = ctx[in.off]
		case opMovReg:
			reg[in.dst] = reg[in.src]
		case opMovImm:
			reg[in.dst] = uint64(in.imm)
		case opAndImm:
			reg[in.dst] &= uint64(in.imm)
		case opRshImm:
			reg[in.dst] >>= uint64(in.imm)
		case opJeqImm:
			if reg[in.dst] == uint64(in.imm) {
				pc += int(in.off)
			}
		case opJneImm:
			if reg[in.dst] != uint64(in.imm) {
				pc += int(in.off)
			}
		case opExit:
			return reg[0] == 1
		default:
			t.Fatalf("instruction %#x", in.op)
		}
	}
	t.Fatal("the program runs off its end")
	return false
}

// TestDevicePolicy compares the program, and the whitelist where one can be
// made, with the meaning of the rules.
func TestDevicePolicy(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	lists, tooHard := 0, 0
	for range 2000 {
		p, err := newDevicePolicy(randomRules(r))
		if err != nil {
			t.Fatal(err)
		}
		prog := p.assemble()
		w, err := p.whitelist()
		if err != nil {
			tooHard++
		} else {
			lists++
		}
		for _, typ := range []byte{'b', 'c'} {
			for major := range int64(3) {
				for minor := range int64(3) {
					for access := uint8(1); access <= accessAll; access++ {
						want := allowed(p, typ, major, minor, access)
						if got := interpret(t, prog, typ, major, minor, access); got != want {
							t.Fatalf("%v: %c %d:%d %d: program says %v", p.rules, typ, major, minor, access, got)
						}
						if w == nil {
							continue
						}
						exception := uint8(0)
						for _, e := range w.exceptions {
							if e.covers(deviceRule{typ: typ, major: major, minor: minor}) {
								exception |= e.access
							}
						}
						// The default is to deny: the exceptions must cover the access; or to
						// allow: none may touch it.
						got := access&^exception == 0
						if w.allow {
							got = access&exception == 0
						}
						if got != want {
							t.Fatalf("%v: %c %d:%d %d: whitelist %+v says %v", p.rules, typ, major, minor, access, w, got)
						}
					}
				}
			}
		}
	}
	if lists < 500 || tooHard == 0 {
		t.Errorf("%d whitelists, %d that cannot be made", lists, tooHard)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("8:0 Read 4096\nTotal 4096\n")
	f.Add("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
	f.Add("26 25 0:23 / /x\\040y rw - cgroup2 cgroup2 rw\n")
	f.Add("c 1:3 rwm\nb *:* m\na *:* rwm\n")
	f.Fuzz(func(t *testing.T, s string) {
		parseBlkio("x", s)
		parseIOStat(s)
		parsePSI(s)
		parseMounts(s)
		for _, e := range parseDevicesList(s).exceptions {
			if e.typ != 'a' && e.access > accessAll {
				t.Errorf("%+v", e)
			}
		}
		pairs(s, func(k string, _ uint64) {
			if strings.Contains(k, " ") {
				t.Errorf("key %q", k)
			}
		})
		field(s, "x")
	})
}

func TestNumber(t *testing.T) {
	for s, want := range map[string]uint64{"5\n": 5, "max\n": math.MaxUint64, "-1": math.MaxUint64, "": 0, "x": 0} {
		if got := number(s); got != want {
			t.Errorf("number(%q) = %d", s, got)
		}
	}
}
