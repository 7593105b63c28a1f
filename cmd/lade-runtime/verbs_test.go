package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/need"
)

// TestHelp: every verb tells its flags, and --help is no error.
func TestHelp(t *testing.T) {
	r := newRig(t, nil)
	for _, s := range synopses() {
		for _, args := range [][]string{{s.verb, "--help"}, {"help", s.verb}} {
			if got := r.do(args...); !strings.HasPrefix(got, "usage: lade-runtime "+s.verb) {
				t.Errorf("%v: %q", args, got)
			}
		}
		if verbs()[s.verb] == nil {
			t.Errorf("there is no %s", s.verb)
		}
	}
	if got := r.do("exec", "-h"); !strings.Contains(got, "--env, -e") {
		t.Error(got)
	}
	for _, args := range [][]string{nil, {"help"}, {"--help"}} {
		if got := r.do(args...); !strings.Contains(got, "--systemd-cgroup") {
			t.Errorf("%v: %q", args, got)
		}
	}
}

// TestMisuse gives verbs what they cannot take.
func TestMisuse(t *testing.T) {
	r := newRig(t, nil)
	empty := t.TempDir()
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{codeNoVerb, "No help topic for 'nosuch'", []string{"nosuch"}},
		{1, "not defined: -bogus", []string{"--bogus"}},
		{1, "not defined: -bogus", []string{"list", "--bogus"}},
		{1, "requires exactly 1 argument", []string{"state"}},
		{1, "requires exactly 1 argument", []string{"start", "a", "b"}},
		{1, "requires no argument", []string{"list", "a"}},
		{1, "requires no argument", []string{"spec", "a"}},
		{1, "requires no argument", []string{"features", "a"}},
		{1, "requires 1 or 2 arguments", []string{"kill"}},
		{1, "requires a minimum of 1 argument", []string{"exec"}},
		{1, "requires a minimum of 1 argument", []string{"ps"}},
		{1, "container id cannot be empty", []string{"state", ""}},
		{1, "no such directory", []string{"create", "--bundle", filepath.Join(empty, "nosuch"), r.id}},
		{1, "config.json not found", []string{"create", "--bundle", empty, r.id}},
		{codeExecFailed, "container does not exist", []string{"exec", "nosuch"}},
	} {
		if code, msg := r.fails(c.args...); code != c.code || !strings.Contains(msg, c.want) {
			t.Errorf("%v: %d %s", c.args, code, msg)
		}
	}
	if left, err := os.ReadDir(r.root); err == nil && len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// TestStates: what a verb refuses in a container's state, it refuses in runc's
// words, and changes nothing.
func TestStates(t *testing.T) {
	r := newRig(t, nil)
	r.create()
	refused := func(code int, want string, args ...string) {
		t.Helper()
		if got, msg := r.fails(args...); got != code || !strings.Contains(msg, want) {
			t.Errorf("%v: %d %s", args, got, msg)
		}
	}
	refused(1, "container not paused", "resume", r.id)
	r.do("kill", r.id, "0") // is there a process?
	r.do("kill", r.id, "CONT")
	for _, sig := range []string{"65", "-1", "SIGNAL", "1x"} {
		if code, _ := r.fails("kill", r.id, "--", sig); code != 1 {
			t.Errorf("signal %s", sig)
		}
	}
	if got := r.status(); got != "created" {
		t.Error(got)
	}
	r.do("start", r.id)
	refused(codeExecFailed, "exec args cannot be empty", "exec", r.id)
	r.do("pause", r.id)
	refused(1, "in the paused state", "start", r.id)
	refused(1, "container not running", "pause", r.id)
	refused(1, "is not stopped: paused", "delete", r.id)
	r.do("resume", r.id)
	r.do("kill", r.id, "KILL")
	need.Eventually(t, "stopped", func() bool { return r.status() == "stopped" })
	for _, verb := range []string{"start", "pause", "resume", "update", "events"} {
		if code, msg := r.fails(verb, r.id); code != 1 || msg == "" {
			t.Errorf("%s of a stopped container: %d %s", verb, code, msg)
		}
	}
	refused(1, "container not running", "kill", r.id, "0")
	refused(codeExecFailed, "cannot exec in a stopped container", "exec", r.id, "/payload", "exit")
	r.do("delete", r.id)
	refused(1, "container does not exist", "delete", r.id)
	r.do("delete", "--force", r.id)
	r.nothingLeft()
}

// TestRefusedConfig: what has no meaning, or would change the host, is refused
// before anything is made: OCI runtime-spec, config.md and config-linux.md.
func TestRefusedConfig(t *testing.T) {
	before := read(t, "/proc/sys/kernel/domainname")
	without := func(kind specs.LinuxNamespaceType) func(*specs.Spec) {
		return func(s *specs.Spec) {
			var rest []specs.LinuxNamespace
			for _, n := range s.Linux.Namespaces {
				if n.Type != kind {
					rest = append(rest, n)
				}
			}
			s.Linux.Namespaces = rest
		}
	}
	core := specs.POSIXRlimit{Type: "RLIMIT_CORE"}
	r := newRig(t, nil)
	raw := read(t, filepath.Join(r.bundle, "config.json"))
	for want, edit := range map[string]func(*specs.Spec){
		"Cwd property must not be empty": func(s *specs.Spec) { s.Process.Cwd = "" },
		"missing '='":                    func(s *specs.Spec) { s.Process.Env = append(s.Process.Env, "A") },
		"name cannot be empty":           func(s *specs.Spec) { s.Process.Env = append(s.Process.Env, "=x") },
		"duplicate rlimit RLIMIT_CORE":   func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{core, core} },
		"invalid device type":            func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Major: 1, Minor: 3}} },
		"rootfsPropagation=much":         func(s *specs.Spec) { s.Linux.RootfsPropagation = "much" },
		"invalid personality domain BSD": func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: "BSD"} },
		"personality flags": func(s *specs.Spec) {
			s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32, Flags: []specs.LinuxPersonalityFlag{"X"}}
		},
		"unable to set domainname": func(s *specs.Spec) { without(specs.UTSNamespace)(s); s.Hostname, s.Domainname = "", "theirs" },
		"unable to set hostname":   func(s *specs.Spec) { without(specs.UTSNamespace)(s); s.Hostname = "theirs" },
		"conflicts with the OCI":   func(s *specs.Spec) { s.Hostname, s.Linux.Sysctl = "a", map[string]string{"kernel.hostname": "b"} },
		"without a private network": func(s *specs.Spec) {
			without(specs.NetworkNamespace)(s)
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: fmt.Sprintf("/proc/%d/ns/net", os.Getpid())})
			s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
		},
		"must be given together": func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/tmp", Source: "/tmp", Type: "bind", UIDMappings: []specs.LinuxIDMapping{{Size: 1}}})
		},
		"annotation must not be empty": func(s *specs.Spec) { s.Annotations = map[string]string{"": "x"} },
	} {
		if err := os.WriteFile(filepath.Join(r.bundle, "config.json"), []byte(raw), 0o644); err != nil {
			t.Fatal(err)
		}
		r.edit(edit)
		if code, msg := r.failsCreate(); code != 1 || !strings.Contains(msg, want) {
			t.Errorf("%s: %d %s", want, code, msg)
		}
		r.nothingLeft()
	}
	if after := read(t, "/proc/sys/kernel/domainname"); after != before {
		t.Errorf("the host is in domain %q now", after)
	}
}

// TestUnknownCapability is told in the log, and no error: config.md, "Linux
// Process".
func TestUnknownCapability(t *testing.T) {
	r := newRig(t, func(s *specs.Spec) {
		s.Process.Args = []string{"/payload", "exit"}
		s.Process.Capabilities.Bounding = append(s.Process.Capabilities.Bounding, "CAP_OF_TOMORROW")
	})
	log := filepath.Join(t.TempDir(), "log")
	if code, msg := r.fails("--log", log, "run", "--bundle", r.bundle, r.id); code != 1 || msg != "" {
		t.Errorf("%d %s", code, msg)
	}
	if got := read(t, log); strings.Count(got, "CAP_OF_TOMORROW") != 1 {
		t.Errorf("%q", got)
	}
}

// TestEnvironment: of a variable that is there twice the last counts.
func TestEnvironment(t *testing.T) {
	r := newRig(t, func(s *specs.Spec) {
		s.Process.Args = []string{"/payload", "show", "file=/proc/self/environ"}
		s.Process.Env = []string{"PATH=/bin", "A=1", "B=2", "A=3"}
	})
	expect(t, r.run(), "file [PATH=/bin\x00B=2\x00A=3\x00HOME=/\x00] <nil>")
	r.edit(func(s *specs.Spec) { s.Process.Args = []string{"/payload", "sleep"} })
	r.create()
	r.do("start", r.id)
	expect(t, r.do("exec", "--env", "PATH=/sbin", "--env", "B=", r.id, "/payload", "show", "file=/proc/self/environ"),
		"file [A=3\x00PATH=/sbin\x00B=\x00HOME=/\x00] <nil>")
	for _, bad := range []string{"A", "=x", ""} {
		if code, msg := r.fails("exec", "--env", bad, r.id, "/payload", "exit"); code != codeExecFailed || !strings.Contains(msg, "invalid environment variable") {
			t.Errorf("%q: %d %s", bad, code, msg)
		}
	}
}

// TestExecInherits: an additional process has of the container's what execve(2)
// keeps, and what the kernel would spare the caller for.
func TestExecInherits(t *testing.T) {
	score := 234
	r := newRig(t, func(s *specs.Spec) {
		s.Process.OOMScoreAdj = &score
		s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 7}
		s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
	})
	what := []string{"/payload", "show", "file=/proc/self/oom_score_adj", "scheduler", "file=/proc/self/personality"}
	want := []string{"file [234] <nil>", "scheduler 3 7", "file [00000008] <nil>"}
	r.create()
	r.do("start", r.id)
	expect(t, r.do(append([]string{"exec", r.id}, what...)...), want...)
	r.do("delete", "--force", r.id)
	r.edit(func(s *specs.Spec) { s.Process.Args = what })
	expect(t, r.run(), want...)
}

// TestMountOptions: a new file system takes all the options that the specification
// names, propagation and recursive ones among them.
func TestMountOptions(t *testing.T) {
	r := newRig(t, nil)
	raw := read(t, filepath.Join(r.bundle, "config.json"))
	for options, want := range map[string]string{
		"shared":               "shared:",
		"unbindable":           "unbindable",
		"rro":                  "ro,relatime",
		"rnoexec,rw":           "noexec",
		"silent,iversion,loud": "rw,relatime",
		"sync,dirsync":         "sync",
	} {
		if err := os.WriteFile(filepath.Join(r.bundle, "config.json"), []byte(raw), 0o644); err != nil {
			t.Fatal(err)
		}
		r.edit(func(s *specs.Spec) {
			s.Process.Args = []string{"/payload", "show", "mount=/tmp"}
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: strings.Split(options, ",")})
		})
		if got := r.run(); !strings.Contains(got, want) {
			t.Errorf("%s: %s", options, got)
		}
	}
}

// TestBind binds directories of the host, in the order of the configuration, with
// and without hooks, which have the root placed elsewhere.
func TestBind(t *testing.T) {
	r := newRig(t, func(s *specs.Spec) {
		s.Process.Args = []string{"/payload", "show", "mount=/tmp/a", "mount=/tmp/b", "file=/tmp/a/f", "open=/.."}
		for _, m := range []specs.Mount{
			{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs"},
			{Destination: "/tmp/a", Type: "bind", Options: []string{"bind", "ro"}},
			{Destination: "/tmp/b", Options: []string{"rbind", "shared"}},
		} {
			if m.Type != "tmpfs" {
				m.Source = "source"
			}
			s.Mounts = append(s.Mounts, m)
		}
	})
	source := filepath.Join(r.bundle, "source")
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(source, "f"), []byte("here"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, hooks := range []*specs.Hooks{nil, {CreateRuntime: []specs.Hook{{Path: "/bin/true"}}}, {StartContainer: []specs.Hook{{Path: "/payload", Args: []string{"/payload", "hello"}}}}} {
		r.edit(func(s *specs.Spec) { s.Hooks = hooks })
		got := r.run()
		for _, want := range []string{"mount ro,relatime", "mount rw,relatime shared:", "file [here] <nil>"} {
			if !strings.Contains(got, want) {
				t.Errorf("%+v: %q is not in\n%s", hooks, want, got)
			}
		}
		r.nothingLeft()
	}
}

// TestUpdateDevices: to allow a device takes nothing away that every container has.
func TestUpdateDevices(t *testing.T) {
	r := newRig(t, func(s *specs.Spec) {
		s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/tun", Type: "c", Major: 10, Minor: 200}}
	})
	r.create()
	r.do("start", r.id)
	open := []string{"exec", r.id, "/payload", "show", "open=/dev/null", "open=/dev/tty", "open=/dev/tun"}
	always := "open <nil>\nopen no such device or address\nopen "
	if got := r.do(open...); got != always+"operation not permitted\n" {
		t.Error(got)
	}
	file := filepath.Join(t.TempDir(), "resources.json")
	if err := os.WriteFile(file, []byte(`{"devices": [{"allow": true, "type": "c", "major": 10, "minor": 200, "access": "rw"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	r.do("update", "--resources", file, r.id)
	// The kernel may have no such device; it is not the group that says so.
	if got := r.do(open...); !strings.HasPrefix(got, always) || strings.HasSuffix(got, "permitted\n") {
		t.Error(got)
	}
}

// TestUpdateRefused: nothing is changed by what is refused.
func TestUpdateRefused(t *testing.T) {
	r := newRig(t, nil)
	r.create()
	for _, args := range [][]string{
		{"--cpu-share", "-3"}, {"--cpu-period", "-1"}, {"--cpu-burst", "x"}, {"--memory", "-2"}, {"--blkio-weight", "1001"},
		{"--l3-cache-schema", "L3:0=f"}, {"--mem-bw-schema", "MB:0=20"}, {"--resources", "/nosuch"},
	} {
		if code, msg := r.fails(append(append([]string{"update", "--pids-limit", "7"}, args...), r.id)...); code != 1 || msg == "" {
			t.Errorf("%v: %d %s", args, code, msg)
		}
	}
	limit := func() string {
		for _, dir := range []string{"/sys/fs/cgroup/pids/", "/sys/fs/cgroup/"} {
			if b, err := os.ReadFile(dir + r.id + "/pids.max"); err == nil {
				return strings.TrimSpace(string(b))
			}
		}
		return ""
	}
	if got := limit(); got != "max" {
		t.Errorf("limit of processes %q", got)
	}
	r.do("update", "--pids-limit", "0", r.id) // none but those that there are
	r.do("start", r.id)
	if got := limit(); got != "0" && got != "1" { // on version 2 the one that is made in the group
		t.Errorf("limit of processes %q", got)
	}
}

// TestPsFails: what ps(1) says is told.
func TestPsFails(t *testing.T) {
	need.Program(t, "ps", "procps")
	r := newRig(t, nil)
	r.create()
	if code, msg := r.fails("ps", r.id, "--nonsense"); code != 1 || !strings.Contains(msg, "nonsense") && !strings.Contains(msg, "unknown") {
		t.Errorf("%d %s", code, msg)
	}
}
