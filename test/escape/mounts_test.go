package escape

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/test/harness"
)

// race is a directory that an attacker exchanges for a symbolic link to a
// directory of the host, as long as the test runs.
type race struct {
	dir    string // to be given to a container as /shared
	victim string // the host's
	secret string // a file of the host, beside it
	stop   func()
}

func (w *world) race(name string) *race {
	w.t.Helper()
	r := &race{dir: w.mkdir(name), victim: w.mkdir(name + "-victim"), secret: w.file(name+"-secret/secret-of-the-host", "secret", 0o600)}
	w.mkdir(name + "/d")
	if err := os.Symlink(r.victim, filepath.Join(r.dir, "l")); err != nil {
		w.t.Fatal(err)
	}
	r.stop = background(w.t, w.payload, "exchange", "120", filepath.Join(r.dir, "d"), filepath.Join(r.dir, "l"))
	return r
}

// TestMountRace is CVE-2021-30465: a mount's destination is exchanged for a link
// to the host between the check and the mount, which then is made there; and
// CVE-2024-45310 (CVE-2024-43784, CVE-2026-41568): what is missing of the
// destination is made on the host; and CVE-2026-133553: a tmpfs is filled where the
// second look at its destination leads.
func TestMountRace(t *testing.T) {
	w := newWorld(t)
	r := w.race("race")
	started := 0
	for range races {
		out := w.attack(options{"-v", r.dir + ":/shared", "-v", "data:/shared/d/x", "--tmpfs", "/shared/d/y", "-w", "/shared/d/z"}, "visible", r.secret)
		if strings.Contains(out, "escaped:") {
			t.Errorf("%s", out)
		}
		if strings.Contains(out, "held:") {
			started++
		}
		untouched(t, r.victim)
	}
	if started == 0 {
		t.Errorf("nothing in %s", attempts(races))
	}

	// The same with the attacker's root: a bundle whose root others write to.
	b := w.race("bundle")
	unpack(t, b.dir, w.Rootfs(), w.payload)
	source := w.mkdir("source")
	started = 0
	for range races {
		c := newBundle(t, b.dir, "visible", b.secret)
		c.Spec.Mounts = append(c.Spec.Mounts,
			specs.Mount{Destination: "/d/x", Type: "bind", Source: source, Options: []string{"bind"}},
			specs.Mount{Destination: "/d/y/z", Type: "tmpfs", Source: "tmpfs"},
			specs.Mount{Destination: "/d/filled", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup"}})
		c.Spec.Process.Cwd = "/d/cwd"
		out := c.run()
		if strings.Contains(out, "escaped:") {
			t.Errorf("lade-runtime: %s", out)
		}
		if strings.Contains(out, "held:") {
			started++
		}
		untouched(t, b.victim)
	}
	if started == 0 {
		t.Errorf("lade-runtime: nothing in %s", attempts(races))
	}

	succeeded(t, "a runtime that checks a path and then mounts on it", w.control("naive-mount", "20", r.dir, "d/x", source, r.victim))
	if list, err := os.ReadDir(r.victim); err != nil || len(list) == 0 {
		t.Errorf("the naive runtime made nothing on the host: %v", err)
	}
}

// TestCoveredProc is CVE-2019-16884 (CVE-2019-19921): a volume on /proc, in
// which labels, sysctls and masks go astray; and the first half of
// CVE-2025-52881: a mount where something is written to below /proc.
func TestCoveredProc(t *testing.T) {
	w := newWorld(t)
	fake := w.mkdir("fake")
	w.file("fake/self/attr/exec", "", 0o666)
	w.file("fake/sys/kernel/hostname", "", 0o666)
	for _, o := range []options{
		{"-v", fake + ":/proc"}, {"-v", "vol:/proc"}, {"--tmpfs", "/proc"}, {"-v", fake + ":/proc/self"}, {"--tmpfs", "/proc/self/attr"},
		{"-v", fake + ":/proc/sys"}, {"-v", "/:/proc/1/root"}, {"--mount", "type=bind,source=" + fake + ",target=/./proc/../proc"},
		{"-v", "/dev/null:/proc/sys/kernel/core_pattern"}, {"--privileged", "-v", fake + ":/proc"},
	} {
		out := w.attack(o, "mounted", "/proc/self")
		if !strings.Contains(out, "cannot be mounted because it is inside /proc") {
			t.Errorf("%v: %s", o, out)
		}
	}
	// What LXCFS covers is allowed, and the host's procfs is one.
	if out := w.attack(options{"-v", "/dev/null:/proc/uptime"}, "mounted", "/proc/uptime"); !strings.Contains(out, "device 1:3") {
		t.Errorf("/proc/uptime: %s", out)
	}
	if out := w.attack(options{"-v", "/proc:/proc"}, "mounted", "/proc/self"); !strings.Contains(out, "fs=9fa0") {
		t.Errorf("the host's /proc: %s", out)
	}

	root := w.rootfs("root")
	for _, m := range []specs.Mount{
		{Destination: "/proc", Type: "bind", Source: fake, Options: []string{"bind"}}, {Destination: "/proc", Type: "tmpfs", Source: "tmpfs"},
		{Destination: "/proc/self/attr", Type: "tmpfs", Source: "tmpfs"}, {Destination: "/proc/sys", Type: "bind", Source: fake, Options: []string{"rbind"}},
	} {
		c := newBundle(t, root, "mounted", "/proc/self")
		c.Spec.Mounts = append(c.Spec.Mounts, m)
		if out := c.run(); !strings.Contains(out, "cannot be mounted because it is inside /proc") {
			t.Errorf("lade-runtime, %v: %s", m, out)
		}
	}
}

// TestProcLink is CVE-2023-27561 and CVE-2023-28642 (CVE-2019-19921): the image
// has a symbolic link as /proc or /sys, which leads into a volume, where others
// exchange what the masks are put on.
func TestProcLink(t *testing.T) {
	w := newWorld(t)
	for _, link := range []string{"/proc", "/sys"} {
		root := w.rootfs("root" + filepath.Base(link))
		w.mkdir(filepath.Base(root) + "/tmp/fake")
		if err := os.Remove(root + link); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/tmp/fake", root+link); err != nil {
			t.Fatal(err)
		}
		if out := newBundle(t, root, "mounted", link).run(); !strings.Contains(out, "too many levels of symbolic links") {
			t.Errorf("lade-runtime, %s: %s", link, out)
		}
		image := "test/link" + filepath.Base(link)
		tar := w.Command("/bin/sh", "-c", "tar -C '"+root+"' -c . | '"+filepath.Join(w.Bin, "lade")+"' import - "+image)
		if out, err := tar.CombinedOutput(); err != nil {
			t.Fatalf("import: %v %s", err, out)
		}
		if out, stderr, code := w.Try("run", "--rm", image, "/payload", "mounted", link); code == 0 || !strings.Contains(stderr, "too many levels of symbolic links") {
			t.Errorf("%s: %d %s%s", link, code, out, stderr)
		}
	}
}

// TestDevLink is CVE-2026-41579 (crun: CVE-2026-47766): the image has a symbolic
// link as /dev, to a directory of the host, where devices and links are made.
func TestDevLink(t *testing.T) {
	w := newWorld(t)
	victim := w.mkdir("victim")
	decoy, secret := w.file("victim/ptmx", "decoy", 0o644), w.file("victim/secret-of-the-host", "secret", 0o600)
	root := w.rootfs("root")
	if err := os.Remove(root + "/dev"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, root+"/dev"); err != nil {
		t.Fatal(err)
	}
	for _, tmpfs := range []bool{true, false} {
		// What the link leads to in the container's own root is as good as any.
		if err := os.MkdirAll(root+victim, 0o755); err != nil {
			t.Fatal(err)
		}
		c := newBundle(t, root, "visible", secret)
		if !tmpfs {
			c.without("/dev")
		}
		withstood(t, "lade-runtime", c.run())
		list, err := os.ReadDir(victim)
		if b, _ := os.ReadFile(decoy); err != nil || len(list) != 2 || string(b) != "decoy" {
			t.Errorf("tmpfs %v: %v, %q, %v", tmpfs, list, b, err)
		}
	}
	// A path of the host leads there.
	succeeded(t, "a naive look-up", w.control("naive-read", root, "dev/ptmx"))
}

// TestMasks is CVE-2025-31133: the container's /dev/null, a link by the time it
// is bound on what is to be masked, makes something of the host writable; and
// CVE-2025-52565: the same with the terminal and /dev/console.
func TestMasks(t *testing.T) {
	w := newWorld(t)
	hidden := []string{"mounted", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern"}
	check := func(what, out string) {
		t.Helper()
		for _, want := range []string{"/proc/kcore: device 1:3", "/proc/keys: device 1:3", "/proc/timer_list: device 1:3",
			"/proc/sysrq-trigger: file 0:0 fs=9fa0 writable=no", "/proc/sys/kernel/core_pattern: file 0:0 fs=9fa0 writable=no"} {
			path, _, _ := strings.Cut(want, ":")
			if _, err := os.Stat(path); err == nil && !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", what, want, out)
			}
		}
		for line := range strings.Lines(out) {
			if strings.HasPrefix(line, "/sys/firmware") && !strings.Contains(line, "writable=no") {
				t.Errorf("%s: %s", what, line)
			}
		}
	}
	check("no attack", w.attack(nil, hidden...))
	dev := w.mkdir("dev")
	for _, target := range []string{"/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/self/attr/exec"} {
		w.Run(w.command("run", options{"--rm", "-v", dev + ":/shared"}, []string{"dev-null", "/shared", target})...)
		check("a volume as /dev, null is "+target, w.attack(options{"-v", dev + ":/dev"}, hidden...))
		out, stderr, _ := w.Try(w.command("run", options{"--rm", "-t", "-v", dev + ":/dev"}, hidden)...)
		if !strings.Contains(stderr, "a terminal needs a mount of type devpts") {
			check("and a terminal, null is "+target+" "+stderr, strings.ReplaceAll(out, "\r", ""))
		}
		root := w.rootfs("root" + filepath.Base(target))
		if err := os.Symlink(target, root+"/dev/null"); err != nil {
			t.Fatal(err)
		}
		c := newBundle(t, root, hidden...)
		c.without("/dev")
		check("lade-runtime, null is "+target, c.run())
	}
	// The control: a runtime that binds the container's null device by its path.
	root := w.rootfs("naive")
	secret := w.file("naive-secret", "the host's", 0o600)
	w.file("naive/etc/masked", "", 0o644)
	if err := os.Symlink(secret, root+"/dev/null"); err != nil {
		t.Fatal(err)
	}
	succeeded(t, "a naive mask", w.control("naive-mask", root, "etc/masked"))
}

// TestRedirectedWrites is CVE-2025-52881: what the runtime writes to procfs for
// the container, sysctls and the labels of security modules, goes elsewhere.
// A masked path that the attacker owns is in the way, or a rename below a
// shared directory. Nothing of the container's file system is on the way here.
func TestRedirectedWrites(t *testing.T) {
	w := newWorld(t)
	before, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		t.Fatal(err)
	}
	r := w.race("race")
	for range races {
		out := w.attack(options{"-v", r.dir + ":/shared", "-v", "/dev/null:/proc/uptime", "--sysctl", "net.ipv4.ip_unprivileged_port_start=77", "-v", "data:/shared/d/x"},
			"mounted", "/proc/sys/net/ipv4/ip_unprivileged_port_start")
		if strings.Contains(out, "writable=yes") {
			t.Errorf("%s", out)
		}
	}
	if out := w.Run("run", "--rm", "--sysctl", "net.ipv4.ip_unprivileged_port_start=77", harness.Image, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"); out != "77" {
		t.Errorf("the sysctl is %q", out)
	}
	if after, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err != nil || string(after) != string(before) {
		t.Errorf("the host's sysctl was %q and is %q, %v", before, after, err)
	}
	untouched(t, r.victim)
	// Keys that would leave the container's namespaces, or /proc/sys.
	for _, key := range []string{"kernel.core_pattern=|/x", "net/../kernel/core_pattern=|/x", "net.ipv4./../../kernel/core_pattern=x", "../self/attr/exec=x"} {
		if out := w.attack(options{"--sysctl", key}, "visible", "/x"); strings.Contains(out, "held:") {
			t.Errorf("--sysctl %s: %s", key, out)
		}
	}
	root := w.rootfs("root")
	for _, key := range []string{"../self/attr/exec", "net/../../self/oom_score_adj", "net.ipv4./../../sysrq-trigger"} {
		c := newBundle(t, root, "visible", "/x")
		c.Spec.Linux.Sysctl = map[string]string{key: "1"}
		if out := c.run(); strings.Contains(out, "held:") {
			t.Errorf("lade-runtime, %s: %s", key, out)
		}
	}
}
