package lxc

import (
	"errors"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
)

func spec(change func(s *specs.Spec)) *specs.Spec {
	s := &specs.Spec{
		Hostname: "host",
		Process: &specs.Process{
			Args: []string{"true"}, Cwd: "/work", Env: []string{"PATH=/bin", "A=b c"}, User: specs.User{UID: 1, GID: 2, AdditionalGids: []uint32{2, 3}},
			Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_CHOWN", "CAP_NET_BIND_SERVICE"}},
			Rlimits:      []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 10, Hard: ^uint64(0)}},
			OOMScoreAdj:  new(7), NoNewPrivileges: true,
		},
		Linux: &specs.Linux{
			CgroupsPath: "/parent/one",
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.IPCNamespace, Path: "/proc/5/ns/ipc"},
				{Type: specs.NetworkNamespace, Path: "/proc/1/fd/9"}, {Type: specs.UTSNamespace},
			},
		},
	}
	if change != nil {
		change(s)
	}
	return s
}

func where() places {
	return places{rootfs: "/b/rootfs", mount: "/b/mnt", log: "/b/log", seccomp: "/b/seccomp", pid: "/b/pid", gate: "/b/gate", groups: "/parent/one.lxc"}
}

func TestTranslate(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(s *specs.Spec)
		limits []cgroup.Setting
		want   []string
	}{
		"process": {nil, nil, []string{
			"lxc.init.cwd = /work", "lxc.init.uid = 1", "lxc.init.gid = 2", "lxc.init.groups = 2,3", "lxc.environment = A=b c",
			"lxc.cap.keep = chown net_bind_service", "lxc.no_new_privs = 1", "lxc.prlimit.nofile = 10:unlimited", "lxc.proc.oom_score_adj = 7",
			"lxc.console.path = none", "lxc.apparmor.profile = unconfined", "lxc.seccomp.profile = /b/seccomp", "lxc.uts.name = host",
		}},
		"no capabilities": {func(s *specs.Spec) { s.Process.Capabilities.Bounding = nil }, nil, []string{"lxc.cap.keep = none"}},
		"labels": {func(s *specs.Spec) { s.Process.ApparmorProfile, s.Process.SelinuxLabel = "docker-default", "a:b:c:d" }, nil,
			[]string{"lxc.apparmor.profile = docker-default", "lxc.selinux.context = a:b:c:d"}},
		"namespaces": {nil, nil, []string{
			"lxc.namespace.clone = mnt pid uts", "lxc.namespace.share.ipc = /proc/5/ns/ipc", "lxc.namespace.share.net = /proc/1/fd/9", "lxc.net.0.type = empty",
		}},
		"network of the host": {func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[:2] }, nil,
			[]string{"lxc.namespace.clone = mnt pid", "lxc.net.0.type = none"}},
		"user namespace": {func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: "/proc/1/fd/7"})
			s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 5}, {ContainerID: 5, HostID: 5, Size: 1}}
			s.Linux.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 2000, Size: 6}}
		}, nil, []string{"lxc.namespace.share.user = /proc/1/fd/7", "lxc.idmap = u 0 1000 5", "lxc.idmap = u 5 5 1", "lxc.idmap = g 0 2000 6"}},
		"root": {func(s *specs.Spec) { s.Root = &specs.Root{Readonly: true} }, nil,
			[]string{"lxc.rootfs.path = dir:/b/rootfs", "lxc.rootfs.mount = /b/mnt", "lxc.rootfs.options = ro"}},
		"mounts": {func(s *specs.Spec) {
			s.Mounts = []specs.Mount{
				{Destination: "/dev", Type: "tmpfs", Options: []string{"size=64k"}},
				{Destination: "/dev/pts", Type: "devpts"},
				{Destination: "/sys/fs/cgroup", Type: "cgroup", Options: []string{"ro"}},
				{Destination: "/my data", Type: "bind", Source: "/etc", Options: []string{"rbind", "rro", "rslave"}},
				{Destination: "/etc/hosts", Type: "bind", Source: "/etc/passwd", Options: []string{"bind"}},
			}
		}, nil, []string{
			"lxc.autodev = 1", "lxc.autodev.tmpfs.size = 65536", "lxc.mount.auto = cgroup:ro:force",
			`lxc.mount.entry = /etc my\040data none rbind,ro,rslave,create=dir 0 0`,
			"lxc.mount.entry = /etc/passwd etc/hosts none bind,create=file 0 0",
		}},
		"paths": {func(s *specs.Spec) {
			s.Linux.MaskedPaths = []string{"/proc/sys", "/proc/uptime", "/proc/nothing"}
			s.Linux.ReadonlyPaths = []string{"/proc/irq", "/proc/nothing"}
		}, nil, []string{
			"lxc.mount.entry = tmpfs proc/sys tmpfs ro 0 0", "lxc.mount.entry = /dev/null proc/uptime none bind 0 0",
			"lxc.mount.entry = /b/mnt/proc/irq proc/irq none rbind,ro 0 0",
		}},
		"device": {func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/nothing", Type: "c", Major: 1, Minor: 3}}
		}, nil, []string{"lxc.mount.entry = /dev/null dev/nothing none bind,create=file 0 0"}},
		"limits": {nil, []cgroup.Setting{{File: "memory.limit_in_bytes", Value: "1000000"}, {File: "memory.max", Value: "5", Unified: true}}, []string{
			"lxc.cgroup.dir.container = parent/one", "lxc.cgroup.dir.monitor = parent/one.lxc/monitor",
			"lxc.cgroup.memory.limit_in_bytes = 1000000", "lxc.cgroup2.memory.max = 5",
		}},
		"device rules": {func(s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{
				{Access: "rwm"}, {Allow: true, Type: "b", Major: new(int64(8)), Access: "r"},
			}}
		}, nil, []string{"lxc.cgroup.devices.deny = a", "lxc.cgroup.devices.allow = b 8:* r", "lxc.cgroup2.devices.allow = b 8:* r", "lxc.cgroup.devices.allow = c 1:3 rwm"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := translate(spec(tc.change), tc.limits, where())
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(string(got), "\n")
			for _, w := range tc.want {
				if !slices.Contains(lines, w) {
					t.Errorf("no line %q in\n%s", w, got)
				}
			}
			if strings.Contains(string(got), "nothing") && name == "paths" {
				t.Errorf("what is not there is mounted:\n%s", got)
			}
		})
	}
}

func TestTranslateRefuses(t *testing.T) {
	for name, change := range map[string]func(s *specs.Spec){
		"user namespace": func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		},
		"mount namespace": func(s *specs.Spec) { s.Linux.Namespaces[0].Path = "/x" },
		"domain name":     func(s *specs.Spec) { s.Domainname = "d" },
		"umask":           func(s *specs.Spec) { s.Process.User.Umask = new(uint32(7)) },
		"lines":           func(s *specs.Spec) { s.Process.Env = []string{"A=b\nlxc.rootfs.path = dir:/"} },
		"lines in a path": func(s *specs.Spec) { s.Process.Cwd = "/a\nb" },
		"sysctl":          func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"kernel.msgmax": "1"} },
		"device": func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "c", Major: 4000, Minor: 1}}
		},
		"mount on /dev":      func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "/dev", Type: "bind"}} },
		"ambient capability": func(s *specs.Spec) { s.Process.Capabilities.Ambient = []string{"CAP_CHOWN"} },
		"personality":        func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32} },
		"hooks":              func(s *specs.Spec) { s.Hooks = &specs.Hooks{} },
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := translate(spec(change), nil, where()); !errors.Is(err, errdefs.Invalid) || !strings.Contains(err.Error(), "runtime lxc cannot do this") {
				t.Errorf("%v\n%s", err, got)
			}
		})
	}
}

func TestFilter(t *testing.T) {
	got, err := filter(&specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno, DefaultErrnoRet: new(uint(38)),
		Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read", "write"}, Action: specs.ActAllow},
			{Names: []string{"clone"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Value: 2114060288, ValueTwo: 0, Op: specs.OpMaskedEqual}}},
			{Names: []string{"personality"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Value: 8, Op: specs.OpEqualTo}}},
			{Names: []string{"clone3"}, Action: specs.ActErrno, ErrnoRet: new(uint(38))},
			{Names: []string{"bpf"}, Action: specs.ActErrno},
			{Names: []string{"kexec_load"}, Action: specs.ActKillProcess},
		},
	})
	want := `2
allowlist errno 38
[all]
read allow
write allow
clone allow [0,0,SCMP_CMP_MASKED_EQ,2114060288]
personality allow [0,8,SCMP_CMP_EQ]
clone3 errno 38
bpf errno 1
kexec_load kill
`
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s", err, got)
	}
	got, err = filter(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"mount"}, Action: specs.ActTrap}}})
	if want := "2\ndenylist allow\n[all]\nmount trap\n"; err != nil || string(got) != want {
		t.Errorf("%v\n%s", err, got)
	}
	if _, err := filter(&specs.LinuxSeccomp{DefaultAction: specs.ActNotify}); !errors.Is(err, errdefs.Invalid) {
		t.Errorf("SCMP_ACT_NOTIFY: %v", err)
	}
}

func TestExplain(t *testing.T) {
	line := "lxc-start t1 20261126113644.894 ERROR    start - ../src/lxc/start.c:start:2197 - "
	for _, tc := range []struct {
		log, want string
		code      int
	}{
		{line + `No such file or directory - Failed to exec "nope"` + "\n" + line + "later\n", `exec: "nope": executable file not found in $PATH`, 127},
		{line + `No such file or directory - Failed to exec "/no/such"`, `exec: "/no/such": stat /no/such: no such file or directory`, 127},
		{line + `Permission denied - Failed to exec "/etc"`, `exec: "/etc": permission denied`, 126},
		{line + `Read-only file system - Failed to set it`, "Failed to set it: Read-only file system", 128},
		{"lxc-start t1 1 WARN x - y - z", "lxc-start failed", 128},
	} {
		if got := explain(tc.log); got.Error() != tc.want || got.Code != tc.code {
			t.Errorf("%q: %v, %d", tc.log, got, got.Code)
		}
	}
}

func TestExitStatus(t *testing.T) {
	line := "lxc-start t1 20261126113618.436 INFO     error - ../src/lxc/error.c:lxc_error_set_and_log:31 - Child <7283> ended on "
	for _, tc := range []struct {
		log          string
		code, signal int
		ok           bool
	}{
		{line + "error (7)\n", 7, -1, true},
		{line + "signal (9)\n", -1, 9, true},
		{"nothing\n", 0, -1, true},
		{"x ERROR start - Failed to spawn container\n", 0, 0, false},
	} {
		ws, ok := exitStatus(tc.log)
		if ok != tc.ok || ok && (ws.ExitStatus() != tc.code || int(ws.Signal()) != tc.signal) {
			t.Errorf("%q: %d, %d, %v", tc.log, ws.ExitStatus(), ws.Signal(), ok)
		}
	}
}
