package escape

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/linux/apparmor"
	"lade/internal/need"
	"lade/test/harness"
)

// algSocket is the argument with which the test binary, which a machine without a
// compiler has, asks for a socket of AF_ALG instead of testing.
const algSocket = "alg-socket"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == algSocket {
		_, err := unix.Socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0)
		fmt.Println("AF_ALG:", err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestAppArmor tries what only the engine's AppArmor profile holds back, in
// containers that have no masks and every capability: where the kernel has
// AppArmor (scripts/test-vm with VM_OPTIONS="--lsm apparmor").
func TestAppArmor(t *testing.T) {
	if !apparmor.Enabled() {
		t.Skip("the kernel has no AppArmor: see scripts/test-vm")
	}
	e := harness.Start(t)
	e.Import()
	if got := e.Run("info", "--format", "{{.SecurityOptions}}"); !strings.Contains(got, "name=apparmor") {
		t.Errorf("info: %s", got)
	}
	if there, err := apparmor.Loaded(apparmor.Default); !there || err != nil {
		t.Fatalf("%s is not loaded: %v\n%s", apparmor.Default, err, e.Log())
	}
	run := func(o options, script string) (string, int) {
		t.Helper()
		out, stderr, code := e.Try(append(append(options{"run", "--rm"}, o...), harness.Image, "sh", "-c", script)...)
		return strings.TrimSpace(out + stderr), code
	}
	label := func(o options) string {
		t.Helper()
		out, _ := run(o, "cat /proc/self/attr/current")
		return out
	}
	for want, o := range map[string]options{
		"lade-default (enforce)": nil, "unconfined": {"--security-opt", "apparmor=unconfined"},
	} {
		if got := label(o); got != want {
			t.Errorf("%v: the label is %q, want %q", o, got, want)
		}
	}
	if got := label(options{"--privileged"}); got != "unconfined" {
		t.Errorf("privileged: %q", got)
	}
	if out, code := run(options{"--security-opt", "apparmor=no-such-profile"}, "true"); code == 0 || !strings.Contains(out, "apparmor") {
		t.Errorf("a profile that is not there: %d %s", code, out)
	}
	// Everything open but for the profile.
	open := options{"--cap-add", "ALL", "--security-opt", "systempaths=unconfined", "--security-opt", "seccomp=unconfined"}
	free := append(options{"--security-opt", "apparmor=unconfined"}, open...)
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{
		"mount -t tmpfs none /tmp",
		// The same value: what is shown is that it can be written.
		"cat /proc/sys/kernel/core_pattern >/tmp/x; cat /tmp/x >/proc/sys/kernel/core_pattern",
		"cat /proc/sys/vm/swappiness >/tmp/x; cat /tmp/x >/proc/sys/vm/swappiness",
		"ls /sys/firmware/memmap /sys/firmware/acpi >/dev/null",
	} {
		if out, code := run(open, script); code == 0 {
			t.Errorf("the profile allows %s: %s", script, out)
		}
		if out, code := run(free, script); code != 0 && !strings.Contains(script, "firmware") {
			t.Errorf("the attack is not real: %s: %d %s", script, code, out)
		}
	}
	// CVE-2026-31431; see TestSockets.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary := options{"-v", self + ":/self:ro"}
	if out, _ := run(append(binary, open...), "/self "+algSocket); out != "AF_ALG: permission denied" {
		t.Errorf("the profile and a socket of AF_ALG: %s", out)
	}
	if out, _ := run(append(binary, free...), "/self "+algSocket); !strings.HasPrefix(out, "AF_ALG:") || strings.Contains(out, "permission denied") {
		t.Errorf("the attack is not real: %s", out)
	}
	if after, err := os.ReadFile("/proc/sys/kernel/core_pattern"); err != nil || string(after) != string(pattern) {
		t.Errorf("core_pattern was %q and is %q, %v", pattern, after, err)
	}
	// What belongs to the container's namespaces stays its own, and its
	// processes may signal each other.
	if out, code := run(options{"--cap-add", "SYS_ADMIN", "--security-opt", "systempaths=unconfined"},
		"echo other >/proc/sys/kernel/hostname && hostname && echo 5 >/proc/sys/net/ipv4/ip_default_ttl && sleep 9 & kill $!"); code != 0 {
		t.Errorf("%d %s", code, out)
	}
	e.Run("run", "-d", "--name", "box", harness.Image, "sleep", "60")
	if got := e.Run("exec", "box", "cat", "/proc/self/attr/current"); got != "lade-default (enforce)" {
		t.Errorf("an exec has the label %q", got)
	}
	if got := e.Run("inspect", "--format", "{{.AppArmorProfile}}", "box"); got != "lade-default" {
		t.Errorf("inspect: %q", got)
	}
	e.Run("stop", "-t", "5", "box")
}

// TestAppArmorProfile: containers that name no profile have the one that the
// daemon is configured with, by what it denies; one that runs keeps its own, and
// with it what is executed in it, when the daemon is configured anew.
func TestAppArmorProfile(t *testing.T) {
	if !apparmor.Enabled() {
		t.Skip("the kernel has no AppArmor: see scripts/test-vm")
	}
	mine := fmt.Sprintf("lade-test-%d", os.Getpid())
	e := harness.Start(t)
	e.Import()
	configure := func(profile string) {
		t.Helper()
		e.Stop()
		if err := os.WriteFile(filepath.Join(e.Dir, "daemon.json"), []byte(`{"apparmor-profile": "`+profile+`"}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) {
		t.Helper()
		e.Run(append(append([]string{"run", "-d", "--network", "none"}, args...), harness.Image, "sleep", "1000")...)
	}
	// keeps holds a container to a profile: that of its first process, of a further
	// one, in inspect, and by whether it denies what mine does.
	keeps := func(name, profile, mode string) {
		t.Helper()
		want := strings.TrimSpace(profile + " " + mode)
		raw, err := os.ReadFile("/proc/" + e.Run("inspect", "--format", "{{.State.Pid}}", name) + "/attr/current")
		if got := strings.TrimSpace(string(raw)); got != want || err != nil {
			t.Errorf("%s has the label %q, want %q; %v", name, got, want, err)
		}
		if got := e.Run("exec", name, "cat", "/proc/self/attr/current"); got != want {
			t.Errorf("an exec in %s has the label %q, want %q", name, got, want)
		}
		if got := e.Run("inspect", "--format", "{{.AppArmorProfile}}", name); got != profile {
			t.Errorf("inspect says that %s has %q, want %q", name, got, profile)
		}
		_, stderr, code := e.Try("exec", name, "sh", "-c", "echo >/locked")
		if denied := code != 0 && strings.Contains(stderr, "Permission denied"); denied != (profile == mine) || !denied && code != 0 {
			t.Errorf("%s under %s: exit code %d, %s", name, profile, code, stderr)
		}
	}
	run("--name", "before")
	keeps("before", apparmor.Default, "(enforce)")

	configure(mine)
	if said := e.Refused(); !strings.Contains(said, `AppArmor profile \"`+mine+`\" is not loaded`) && !strings.Contains(said, `AppArmor profile "`+mine+`" is not loaded`) {
		t.Errorf("with a profile that is not loaded: %s", said)
	}
	parser := func(text string, args ...string) {
		t.Helper()
		cmd := exec.Command(need.Program(t, "apparmor_parser", "Debian's apparmor"), append(args, "--skip-cache")...)
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("apparmor_parser: %v\n%s", err, out)
		}
	}
	const rules = "flags=(attach_disconnected,mediate_deleted) {\n  network,\n  capability,\n  file,\n  signal,\n  ptrace,\n  deny /locked w,\n}\n"
	text := "profile " + mine + " " + rules
	parser(text, "--replace")
	t.Cleanup(func() { parser(text, "--remove") })
	e.Launch()
	run("--name", "mine")
	run("--name", "other", "--security-opt", "apparmor="+apparmor.Default)
	run("--name", "privileged", "--privileged")
	keeps("before", apparmor.Default, "(enforce)")
	keeps("mine", mine, "(enforce)")
	keeps("other", apparmor.Default, "(enforce)")
	keeps("privileged", "unconfined", "")
	// It is the default of the next start, as in Docker.
	e.Run("restart", "-t", "0", "before")
	keeps("before", mine, "(enforce)")

	configure("unconfined")
	e.Launch()
	run("--name", "free")
	keeps("free", "unconfined", "")
	keeps("mine", mine, "(enforce)")
	e.Run("rm", "-f", "before", "mine", "other", "privileged", "free")
}
