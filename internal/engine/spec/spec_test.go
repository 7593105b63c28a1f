package spec

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/linux/caps"
	"lade/internal/linux/cgroup"
	"lade/internal/need"
)

var update = flag.Bool("update", false, "write testdata anew")

// host is an ordinary machine.
func host() Facts {
	return Facts{
		CgroupVersion: 1, CPUs: 2, Capabilities: caps.Set(1<<41 - 1).Names(), Kernel: "6.1.0", Seccomp: true, Swap: true,
		CPUSet: "0-1", MemSet: "0", RecursiveReadOnly: true,
		Sysctls: map[string]string{"net.ipv4.ping_group_range": "0 2147483647", "net.ipv4.ip_unprivileged_port_start": "0"},
		Limits: cgroup.Features{Memory: true, Swap: true, Reservation: true, Swappiness: true, OOMDisable: true, CPUShares: true, CPUQuota: true,
			CPURealtime: true, Cpuset: true, Pids: true, Devices: true, IOWeight: true, IOWeightDevice: true, IOThrottle: true},
	}
}

func find(path string) ([]specs.LinuxDevice, error) {
	mode := os.FileMode(0o666)
	dev := func(path, typ string, major, minor int64) specs.LinuxDevice {
		return specs.LinuxDevice{Path: path, Type: typ, Major: major, Minor: minor, FileMode: &mode, UID: new(uint32(0)), GID: new(uint32(0))}
	}
	switch path {
	case "/dev/null":
		return []specs.LinuxDevice{dev(path, "c", 1, 3)}, nil
	case "/dev/sda":
		return []specs.LinuxDevice{dev(path, "b", 8, 0)}, nil
	case "/dev/snd":
		return []specs.LinuxDevice{dev("/dev/snd/seq", "c", 116, 1), dev("/dev/snd/by/timer", "c", 116, 33)}, nil
	case "/dev":
		return []specs.LinuxDevice{dev("/dev/null", "c", 1, 3), dev("/dev/sda", "b", 8, 0), dev("/dev/fuse", "c", 10, 229)}, nil
	}
	return nil, errdefs.Invalidf("error gathering device information while adding custom device %q: no such file or directory", path)
}

func input() Input {
	return Input{
		ID: "0123", Config: &container.Config{Hostname: "0123", Env: []string{"A=1"}}, Host: &container.HostConfig{ShmSize: 64 << 20, IpcMode: "private"},
		Path: "sleep", Args: []string{"300"}, CgroupPath: "/docker/0123", Facts: host(), Devices: find,
		Files: Files{Hosts: "/c/hosts", Hostname: "/c/hostname", Resolv: "/c/resolv.conf"},
	}
}

// cases are whole requests; testdata/<name>.json is what becomes of them.
func cases() map[string]Input {
	plain := input()

	full := input()
	full.Config = &container.Config{Hostname: "hh", Domainname: "example.com", Tty: true, WorkingDir: "/w", User: "1:2", Env: []string{"PATH=/bin", "X=1", "TERM"}}
	full.Host = &container.HostConfig{
		CapAdd: []string{"net_admin"}, CapDrop: []string{"CAP_MKNOD"}, ReadonlyRootfs: true, ShmSize: 1 << 20, OomScoreAdj: 100,
		SecurityOpt: []string{"no-new-privileges", "seccomp=unconfined"}, Sysctls: map[string]string{"net.ipv4.ip_forward": "1", "kernel.msgmax": "65536"},
		Tmpfs: map[string]string{"/t": "size=1m,exec"}, Annotations: map[string]string{"a": "b"}, ConsoleSize: [2]uint{24, 80}, Umask: new(uint32(0o27)),
		Resources: container.Resources{
			Memory: 64 << 20, MemorySwap: 128 << 20, MemoryReservation: 32 << 20, MemorySwappiness: new(int64(10)), NanoCPUs: 5e8, CPUShares: 512,
			CpusetCpus: "0", CpusetMems: "0", PidsLimit: new(int64(50)), BlkioWeight: 300, OomKillDisable: new(true),
			BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{{Path: "/dev/sda", Rate: 1 << 20}},
			BlkioWeightDevice:  []*blkiodev.WeightDevice{{Path: "/dev/sda", Weight: 200}},
			Ulimits:            []*container.Ulimit{{Name: "nofile", Soft: 100, Hard: 200}, {Name: "core", Soft: -1, Hard: -1}},
			Devices:            []container.DeviceMapping{{PathOnHost: "/dev/null", PathInContainer: "/dev/xnull", CgroupPermissions: "r"}, {PathOnHost: "/dev/snd", PathInContainer: "/dev/sound", CgroupPermissions: "rwm"}},
			DeviceCgroupRules:  []string{"c 42:* rmw"},
		},
	}
	full.Mounts = []Mount{
		{Type: "bind", Source: "/srv/deep", Destination: "/host/deep", Propagation: "rprivate"},
		{Type: "bind", Source: "/tmp", Destination: "/host", ReadOnly: true, Propagation: "rslave"},
		{Type: "bind", Source: "/my/hosts", Destination: "/etc/hosts", Propagation: "rprivate", Options: []string{"bind"}},
		{Type: "tmpfs", Destination: "/run", ReadOnly: true, Options: []string{"mode=700"}},
	}

	privileged := input()
	privileged.Host = &container.HostConfig{Privileged: true, Resources: container.Resources{Devices: []container.DeviceMapping{{PathOnHost: "/dev/null", PathInContainer: "/dev/other"}}}}
	privileged.Namespaces.Cgroup = "host"

	shared := input()
	shared.Host = &container.HostConfig{NetworkMode: "host", PidMode: "container:x", IpcMode: "host", UTSMode: "host", CapDrop: []string{"ALL"}, CapAdd: []string{"chown"},
		SecurityOpt: []string{"systempaths=unconfined"}}
	shared.Namespaces = Namespaces{Net: "host", IPC: "host", UTS: "host", PID: "/proc/7/ns/pid", Cgroup: "host"}
	return map[string]Input{"plain": plain, "full": full, "privileged": privileged, "shared": shared}
}

func TestGolden(t *testing.T) {
	for name, in := range cases() {
		out, err := Build(in)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := json.MarshalIndent(out.Spec, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, '\n')
		file := filepath.Join("testdata", name+".json")
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if wantProfile := name == "plain" || name == "shared"; (out.Seccomp != nil) != wantProfile {
			t.Errorf("%s: seccomp profile: %v", name, out.Seccomp != nil)
		}
		if out.Spec.Linux.Seccomp != nil {
			t.Errorf("%s: the profile is in the specification", name)
		}
	}
}

func TestCapabilities(t *testing.T) {
	all := host().Capabilities
	without := func(list []string, drop ...string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(c string) bool { return slices.Contains(drop, c) })
	}
	for _, tc := range []struct {
		add, drop  []string
		privileged bool
		want       []string
		err        string
	}{
		{want: defaultCaps()},
		{privileged: true, drop: []string{"ALL"}, want: all},
		{add: []string{"all"}, want: all},
		{add: []string{"ALL"}, drop: []string{"sys_admin"}, want: without(all, "CAP_SYS_ADMIN")},
		{drop: []string{"ALL"}, want: nil},
		{drop: []string{"ALL"}, add: []string{"NET_RAW", "cap_chown"}, want: []string{"CAP_NET_RAW", "CAP_CHOWN"}},
		{drop: []string{"chown"}, add: []string{"sys_time", "kill"}, want: append(without(defaultCaps(), "CAP_CHOWN"), "CAP_SYS_TIME")},
		{add: []string{"nope"}, err: `unknown capability: "CAP_NOPE"`},
	} {
		hc := &container.HostConfig{CapAdd: tc.add, CapDrop: tc.drop, Privileged: tc.privileged}
		got, err := capabilities(hc, host())
		if tc.err != "" {
			if err == nil || err.Error() != tc.err || !errors.Is(err, errdefs.Invalid) {
				t.Errorf("%+v: %v", tc, err)
			}
			continue
		}
		if err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("+%v -%v: %v, %v; want %v", tc.add, tc.drop, got, err, tc.want)
		}
	}
	f := host()
	f.Capabilities = without(f.Capabilities, "CAP_SYS_RESOURCE", "CAP_MKNOD")
	if _, err := Capabilities([]string{"SYS_RESOURCE"}, f); err == nil || !strings.HasPrefix(err.Error(), "capability not supported by your kernel or not available") {
		t.Errorf("a capability that the kernel does not have: %v", err)
	}
	if got, _ := capabilities(&container.HostConfig{}, f); slices.Contains(got, "CAP_MKNOD") {
		t.Error("a default capability that the host lacks is given")
	}
}

func TestValidate(t *testing.T) {
	type hc = container.HostConfig
	type res = container.Resources
	for _, tc := range []struct {
		in  hc
		err string
	}{
		{hc{Resources: res{Memory: 1024}}, "Minimum memory limit allowed is 6MB"},
		{hc{Resources: res{Memory: 64 << 20, MemorySwap: 32 << 20}}, "Minimum memoryswap limit should be larger than memory limit, see usage"},
		{hc{Resources: res{MemorySwap: 32 << 20}}, "You should always set the Memory limit when using Memoryswap limit, see usage"},
		{hc{Resources: res{MemorySwappiness: new(int64(101))}}, "Invalid value: 101, valid memory swappiness range is 0-100"},
		{hc{Resources: res{MemorySwappiness: new(int64(-1))}}, ""},
		{hc{Resources: res{MemoryReservation: 1}}, "Minimum memory reservation allowed is 6MB"},
		{hc{Resources: res{Memory: 8 << 20, MemoryReservation: 9 << 20}}, "Minimum memory limit can not be less than memory reservation limit, see usage"},
		{hc{Resources: res{NanoCPUs: 1e12}}, "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"},
		{hc{Resources: res{NanoCPUs: 1e9, CPUPeriod: 10000}}, "Conflicting options: Nano CPUs and CPU Period cannot both be set"},
		{hc{Resources: res{NanoCPUs: 1e9, CPUQuota: 10000}}, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"},
		{hc{Resources: res{CPUPeriod: 10}}, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"},
		{hc{Resources: res{CPUQuota: 10}}, "CPU cfs quota can not be less than 1ms (i.e. 1000)"},
		{hc{Resources: res{CPUShares: -1}}, "invalid CPU shares (-1): value must be a positive integer"},
		{hc{Resources: res{CpusetCpus: "0-3"}}, "Requested CPUs are not available - requested 0-3, available: 0-1"},
		{hc{Resources: res{CpusetMems: "1"}}, "Requested memory nodes are not available - requested 1, available: 0"},
		{hc{Resources: res{CpusetCpus: "a"}}, "Invalid value a for cpuset cpus: invalid format: a"},
		{hc{Resources: res{CpusetCpus: "0,1"}}, ""},
		{hc{Resources: res{BlkioWeight: 5}}, "Range of blkio weight is from 10 to 1000"},
		{hc{Resources: res{BlkioWeightDevice: []*blkiodev.WeightDevice{nil}}}, "invalid BlkioWeightDevice: a device is needed"},
		{hc{Resources: res{BlkioDeviceWriteIOps: []*blkiodev.ThrottleDevice{nil}}}, "invalid limit of block I/O: a device is needed"},
		{hc{Resources: res{MemoryReservation: -1}}, "Minimum memory reservation allowed is 6MB"},
		{hc{Resources: res{NanoCPUs: 9e6}}, "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"},
		{hc{OomScoreAdj: 1001}, "Invalid value 1001, range for oom score adj is [-1000, 1000]"},
		{hc{ShmSize: -1}, "SHM size can not be less than 0"},
		{hc{PidMode: "x"}, "invalid PID mode: x"},
		{hc{IpcMode: "x"}, "invalid IPC mode: x"},
		{hc{UTSMode: "x"}, "invalid UTS mode: x"},
		{hc{Isolation: "hyperv"}, "invalid isolation 'hyperv' on linux"},
		{hc{Isolation: "default"}, ""},
		{hc{CgroupnsMode: "x"}, "invalid cgroup namespace mode: x"},
		{hc{CapAdd: []string{"NOPE"}}, `invalid CapAdd: unknown capability: "CAP_NOPE"`},
		{hc{CapDrop: []string{"NOPE"}}, `invalid CapDrop: unknown capability: "CAP_NOPE"`},
		{hc{Sysctls: map[string]string{"kernel.panic": "1"}}, `sysctl "kernel.panic" is not in a separate kernel namespace`},
		{hc{Sysctls: map[string]string{"net.core.somaxconn": "1"}, NetworkMode: "host"}, `sysctl "net.core.somaxconn" is not allowed in the hosts network namespace`},
		{hc{Sysctls: map[string]string{"net.core.somaxconn": "1"}}, ""},
		{hc{Sysctls: map[string]string{"net/../kernel/panic": "1"}}, `invalid sysctl name "net/../kernel/panic"`},
		{hc{Sysctls: map[string]string{"kernel.hostname": "1"}}, `sysctl "kernel.hostname" is not allowed as it conflicts with the OCI 'hostname' field`},
		{hc{SecurityOpt: []string{"what=x"}}, `invalid --security-opt 2: "what=x"`},
		{hc{SecurityOpt: []string{"what"}}, `invalid --security-opt 1: "what"`},
		{hc{SecurityOpt: []string{"no-new-privileges=maybe"}}, `invalid --security-opt 2: "no-new-privileges=maybe"`},
		{hc{SecurityOpt: []string{"no-new-privileges:false", "label=disable", "apparmor=unconfined"}}, ""},
		{hc{Resources: res{Ulimits: []*container.Ulimit{{Name: "x"}}}}, "invalid ulimit type: x"},
		{hc{Resources: res{Ulimits: []*container.Ulimit{{Name: "nofile", Soft: 3, Hard: 2}}}}, "ulimit soft limit must be less than or equal to hard limit: 3 > 2"},
		{hc{Resources: res{DeviceCgroupRules: []string{"c 1:3"}}}, "invalid device cgroup rule format: 'c 1:3'"},
		{hc{Tmpfs: map[string]string{"x": ""}}, "invalid mount path: 'x' mount path must be absolute"},
		{hc{Tmpfs: map[string]string{"/x": "blah"}}, `invalid tmpfs option ["blah"]`},
		{hc{Resources: res{CpusetCpus: "9"}}, "Requested CPUs are not available - requested 9, available: 0-1"},
		{hc{Resources: res{MemorySwappiness: new(int64(-2))}}, "Invalid value: -2, valid memory swappiness range is 0-100"},
		{hc{Resources: res{NanoCPUs: -1}}, "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"},
		{hc{Resources: res{CPURealtimePeriod: 1000, CPURealtimeRuntime: 2000}}, "cpu real-time runtime cannot be higher than cpu real-time period"},
		{hc{Resources: res{BlkioWeight: 1001}}, "Range of blkio weight is from 10 to 1000"},
		{hc{Resources: res{IOMaximumBandwidth: 1}}, "invalid option: QoS maximum bandwidth configuration is not supported on linux"},
		{hc{Resources: res{IOMaximumIOps: 1}}, "invalid option: QoS maximum IOPs configuration is not supported on linux"},
		{hc{Resources: res{CgroupParent: "a\nb"}}, `invalid cgroup parent "a\nb"`},
		{hc{Resources: res{CgroupParent: "/a/b.slice"}}, ""},
		{hc{}, ""},
	} {
		w, err := Validate(&container.Config{}, &tc.in, host())
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != tc.err || err != nil && !errors.Is(err, errdefs.Invalid) || len(w) != 0 {
			t.Errorf("%+v: %q %v, want %q", tc.in.Resources, got, w, tc.err)
		}
	}
	if _, err := Validate(&container.Config{WorkingDir: "x"}, &hc{}, host()); err == nil || err.Error() != "the working directory 'x' is invalid, it needs to be an absolute path" {
		t.Errorf("a relative working directory: %v", err)
	}
}

// TestCgroupConf: files of version 2 by name, on the three kinds of host.
func TestCgroupConf(t *testing.T) {
	v1, v2, hybrid := host(), host(), host()
	v1.Controllers = map[string]bool{"memory": true}
	v2.Controllers, v2.Unified = map[string]bool{"memory": true, "io": true, "blkio": true}, map[string]bool{"memory": true, "io": true}
	hybrid.Controllers, hybrid.Unified = map[string]bool{"blkio": true, "hugetlb": true}, map[string]bool{"hugetlb": true}
	for _, tc := range []struct {
		host        Facts
		file, value string
		err         string
	}{
		{v2, "memory.high", "1000000", ""},
		{v2, "cgroup.max.descendants", "5", ""},
		{hybrid, "hugetlb.2MB.max", "0", ""},
		{hybrid, "io.max", "8:0 rbps=1", `--cgroup-conf io.max: on this host the controller "blkio" is of version 1, which has other files`},
		{hybrid, "misc.max", "x 1", `--cgroup-conf misc.max: this host has no control group controller "misc"`},
		{v1, "memory.high", "1", "--cgroup-conf memory.high: this host has control groups of version 1 only"},
		{v2, "cgroup.procs", "1", "--cgroup-conf cgroup.procs: it is for limits, which this is not"},
		{v2, "memory", "1", `invalid --cgroup-conf "memory": it must be the name of a file of a control group, as memory.high`},
		{v2, "../memory.max", "1", `invalid --cgroup-conf "../memory.max": it must be the name of a file of a control group, as memory.high`},
		{v2, "memory.max", "", `invalid --cgroup-conf "memory.max": it has no value`},
	} {
		hc := &container.HostConfig{Annotations: map[string]string{ConfPrefix + tc.file: tc.value, "other": "x"}}
		_, err := Validate(nil, hc, tc.host)
		if got := fmt.Sprint(err); err == nil && tc.err != "" || err != nil && (got != tc.err || !errors.Is(err, errdefs.Invalid)) {
			t.Errorf("%s=%s: %v, want %q", tc.file, tc.value, err, tc.err)
		}
		if err != nil {
			continue
		}
		r, err := Resources(hc, tc.host, find)
		if err != nil || len(r.Unified) != 1 || r.Unified[tc.file] != tc.value {
			t.Errorf("%s=%s: %v, %v", tc.file, tc.value, r.Unified, err)
		}
	}
}

func TestSystemdParent(t *testing.T) {
	f := host()
	f.Systemd = true
	const want = `cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"`
	for parent, ok := range map[string]bool{"": true, "a.slice": true, "/a": false, ".slice": false, "a.scope": false} {
		_, err := Validate(nil, &container.HostConfig{Resources: container.Resources{CgroupParent: parent}}, f)
		if ok != (err == nil) || err != nil && err.Error() != want {
			t.Errorf("%q: %v", parent, err)
		}
	}
}

// TestUpdateAlone: an update is checked without what the container has.
func TestUpdateAlone(t *testing.T) {
	if w, err := ValidateUpdate(&container.Resources{MemorySwap: 64 << 20}, host()); err != nil || len(w) != 0 {
		t.Errorf("an update of swap alone: %v, %v", w, err)
	}
	for _, r := range []container.Resources{{Memory: 1}, {MemorySwap: 1 << 20, Memory: 64 << 20}, {CpusetCpus: "7"}, {BlkioWeight: 1}, {NanoCPUs: 3e9},
		{BlkioWeightDevice: []*blkiodev.WeightDevice{nil}}, {BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{nil}},
	} {
		if _, err := ValidateUpdate(&r, host()); !errors.Is(err, errdefs.Invalid) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	gone := &container.HostConfig{Resources: container.Resources{
		BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{{Path: "/dev/gone", Rate: 5}, {Path: "/dev/sda", Rate: 0}},
		BlkioWeightDevice:  []*blkiodev.WeightDevice{{Path: "/dev/gone", Weight: 50}},
	}}
	r, err := Resources(gone, host(), find)
	if err != nil || len(r.BlockIO.ThrottleReadBpsDevice) != 1 || len(r.BlockIO.WeightDevice) != 0 || len(gone.BlkioDeviceReadBps) != 2 {
		t.Errorf("limits of devices that are gone: %+v, %v", r.BlockIO, err)
	}
}

// TestDiscarded: a host without control groups takes everything, with words.
func TestDiscarded(t *testing.T) {
	hc := &container.HostConfig{CapAdd: []string{"net_admin"}, SecurityOpt: []string{"apparmor=x", "label=type:y"}, Resources: container.Resources{
		Memory: 64 << 20, MemorySwap: 128 << 20, MemoryReservation: 32 << 20, MemorySwappiness: new(int64(1)), OomKillDisable: new(true), PidsLimit: new(int64(5)),
		CPUShares: 5, CPUPeriod: 1, CpusetCpus: "0", BlkioWeight: 100, BlkioDeviceWriteIOps: []*blkiodev.ThrottleDevice{{Path: "/dev/sda", Rate: 1}}, CPUPercent: 3,
	}}
	w, err := Validate(nil, hc, Facts{CPUs: 1, Capabilities: host().Capabilities})
	if err != nil || len(w) != 13 {
		t.Errorf("%d warnings, %v: %s", len(w), err, strings.Join(w, "\n"))
	}
	r, err := Resources(hc, host(), find)
	if err != nil || r.Memory != nil || r.CPU != nil || r.Pids != nil || r.BlockIO != nil {
		t.Errorf("no limits: %+v, %v", r, err)
	}
	if hc.CapAdd[0] != "CAP_NET_ADMIN" {
		t.Errorf("CapAdd is %v", hc.CapAdd)
	}
}

func TestExec(t *testing.T) {
	in := input()
	in.Config.WorkingDir, in.Config.Tty = "/w", true
	in.Host.SecurityOpt = []string{"no-new-privileges"}
	p, profile, err := Exec(in, ExecInput{Cmd: []string{"ls", "-l"}, Env: []string{"A=2", "B=3"}, ConsoleSize: &[2]uint{1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	wantEnv := []string{"PATH=" + defaultPath, "HOSTNAME=0123", "A=2", "B=3"}
	if p.Terminal || p.ConsoleSize != nil || p.Cwd != "/w" || !p.NoNewPrivileges || !slices.Equal(p.Args, []string{"ls", "-l"}) || !slices.Equal(p.Env, wantEnv) || profile == nil {
		t.Errorf("an exec as the container is: %+v", p)
	}
	p, _, err = Exec(in, ExecInput{Cmd: []string{"sh"}, Tty: true, Privileged: true, WorkingDir: "/x", ConsoleSize: &[2]uint{1, 2}})
	if err != nil || !p.Terminal || p.ConsoleSize.Width != 2 || p.Cwd != "/x" || len(p.Capabilities.Bounding) != 41 || !slices.Contains(p.Env, "TERM=xterm") {
		t.Errorf("an exec with options: %+v, %v", p, err)
	}
	for _, x := range []ExecInput{{}, {Cmd: []string{"x"}, WorkingDir: "rel"}} {
		if _, _, err := Exec(in, x); !errors.Is(err, errdefs.Invalid) {
			t.Errorf("%+v: %v", x, err)
		}
	}
}

func TestBuildErrors(t *testing.T) {
	for what, change := range map[string]func(*Input){
		"no command":        func(in *Input) { in.Path = "" },
		"working directory": func(in *Input) { in.Config.WorkingDir = "x" },
		"mount on /":        func(in *Input) { in.Mounts = []Mount{{Type: "bind", Source: "/", Destination: "/."}} },
		"relative mount":    func(in *Input) { in.Mounts = []Mount{{Type: "bind", Source: "/", Destination: "x"}} },
		"mount type":        func(in *Input) { in.Mounts = []Mount{{Type: "nfs", Source: "/", Destination: "/x"}} },
		"propagation": func(in *Input) {
			in.Mounts = []Mount{{Type: "bind", Source: "/", Destination: "/x", Propagation: "odd"}}
		},
		"device": func(in *Input) { in.Host.Devices = []container.DeviceMapping{{PathOnHost: "/dev/nope"}} },
		"device mode": func(in *Input) {
			in.Host.Devices = []container.DeviceMapping{{PathOnHost: "/dev/null", CgroupPermissions: "x"}}
		},
		"profile": func(in *Input) { in.Host.SecurityOpt = []string{"seccomp={"} },
		"no seccomp": func(in *Input) {
			in.Facts.Seccomp, in.Host.SecurityOpt = false, []string{`seccomp={"defaultAction":"SCMP_ACT_ALLOW"}`}
		},
		"host sysctl": func(in *Input) { in.Host.Sysctls, in.Namespaces.IPC = map[string]string{"kernel.sem": "1"}, "host" },
	} {
		in := input()
		change(&in)
		if _, err := Build(in); !errors.Is(err, errdefs.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestMerge(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"", "noexec nosuid nodev"},
		{"exec,size=1m,size=2m", "nosuid nodev exec size=2m"},
		{"exec,noexec,ro,rw", "nosuid nodev noexec rw"},
		{"mode=1777,uid=3,gid=4,nr_inodes=5,rprivate", "noexec nosuid nodev mode=1777 uid=3 gid=4 nr_inodes=5 rprivate"},
	} {
		if got, err := mergeTmpfs(strings.Split(tc.in, ",")); err != nil || strings.Join(got, " ") != tc.want {
			t.Errorf("%q: %q, %v", tc.in, strings.Join(got, " "), err)
		}
	}
}

func TestPrivilegedPaths(t *testing.T) {
	hc := &container.HostConfig{Privileged: true, MaskedPaths: []string{"/proc/x"}}
	if m, r := paths(hc, host(), &security{}); len(m) != 1 || r != nil {
		t.Errorf("masked and read-only paths, privileged: %v %v", m, r)
	}
	if m, r := paths(&container.HostConfig{MaskedPaths: []string{}, ReadonlyPaths: []string{}}, host(), &security{}); len(m) != 0 || len(r) != 0 {
		t.Errorf("masked and read-only paths, none wanted: %v %v", m, r)
	}
	f := host()
	f.Masked = []string{"/a"}
	if m, r := paths(&container.HostConfig{}, f, &security{}); len(m) != 13 || m[0] != "/a" || len(r) != 5 {
		t.Errorf("masked and read-only paths, the default: %v %v", m, r)
	}
}

func TestDotted(t *testing.T) {
	for in, want := range map[string]string{
		"net.ipv4.ip_forward": "net.ipv4.ip_forward", "net/ipv4/ip_forward": "net.ipv4.ip_forward",
		"net/ipv4/conf/eth0.1/forwarding": "net.ipv4.conf.eth0/1.forwarding", "net.ipv4.conf.eth0/1.forwarding": "net.ipv4.conf.eth0/1.forwarding",
	} {
		if got := dotted(in); got != want {
			t.Errorf("dotted(%q) = %q", in, got)
		}
	}
}

func TestDetect(t *testing.T) {
	need.File(t, "/sys/fs/cgroup", "control groups")
	h, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	f, err := Detect(h)
	if err != nil {
		t.Fatal(err)
	}
	if f.CPUs < 1 || f.Kernel == "" || f.CPUSet == "" || !f.Seccomp {
		t.Errorf("facts of this host: %+v", f)
	}
}

func BenchmarkBuild(b *testing.B) {
	in := cases()["full"]
	in.Host.SecurityOpt = nil
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Build(in); err != nil {
			b.Fatal(err)
		}
	}
}

// TestHarmless takes away, one by one, what keeps a container from changing
// its network namespace or from leaving a process in it.
func TestHarmless(t *testing.T) {
	const own = "/var/lib/lade/hosts"
	for name, tc := range map[string]struct {
		change func(*Input)
		want   bool
	}{
		"plain":              {func(*Input) {}, true},
		"fewer capabilities": {func(in *Input) { in.Host.CapDrop = []string{"ALL"} }, true},
		"tmpfs":              {func(in *Input) { in.Mounts = []Mount{{Type: "tmpfs", Destination: "/t"}} }, true},
		"own file": {func(in *Input) {
			in.Mounts = []Mount{{Type: "bind", Source: own, Destination: "/etc/hosts"}}
		}, true},
		"unconfined":        {func(in *Input) { in.Host.SecurityOpt = []string{"seccomp=unconfined"} }, true},
		"privileged":        {func(in *Input) { in.Host.Privileged = true }, false},
		"NET_ADMIN":         {func(in *Input) { in.Host.CapAdd = []string{"NET_ADMIN"} }, false},
		"SYS_ADMIN only":    {func(in *Input) { in.Host.CapDrop, in.Host.CapAdd = []string{"ALL"}, []string{"SYS_ADMIN"} }, false},
		"writable /proc":    {func(in *Input) { in.Host.SecurityOpt = []string{"systempaths=unconfined"} }, false},
		"writable sysctls":  {func(in *Input) { in.Host.ReadonlyPaths = []string{} }, false},
		"nothing is masked": {func(in *Input) { in.Host.MaskedPaths = []string{} }, false},
		"PIDs of the host":  {func(in *Input) { in.Namespaces.PID = "host" }, false},
		"PIDs of another":   {func(in *Input) { in.Namespaces.PID = "/proc/7/ns/pid" }, false},
		"device rule":       {func(in *Input) { in.Host.DeviceCgroupRules = []string{"c 10:200 rw"} }, false},
		"device":            {func(in *Input) { in.Host.Devices = []container.DeviceMapping{{PathOnHost: "/dev/null"}} }, false},
		"bind": {func(in *Input) {
			in.Mounts = []Mount{{Type: "bind", Source: "/", Destination: "/host", Propagation: "rprivate"}}
		}, false},
		"memory of the host": {func(in *Input) { in.Namespaces.IPC = "host" }, false},
		"sysctl":             {func(in *Input) { in.Host.Sysctls = map[string]string{"net.ipv4.ip_forward": "1"} }, false},
	} {
		in := input()
		in.Facts.Sysctls, in.Files = nil, Files{}
		tc.change(&in)
		out, err := Build(in)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := Harmless(out.Spec, []string{own}); got != tc.want {
			t.Errorf("%s: harmless: %t, want %t", name, got, tc.want)
		}
	}
}
