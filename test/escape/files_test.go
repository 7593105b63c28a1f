package escape

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/test/harness"
)

// TestWorkingDirectory is CVE-2024-21626: a descriptor of the host is open when
// the runtime changes to the working directory /proc/self/fd/N, and the process
// starts in a directory of the host.
func TestWorkingDirectory(t *testing.T) {
	w := newWorld(t)
	secret := w.file("secret-of-the-host", "secret", 0o600)
	w.spawn("box", nil, "exchange", "0", "/a", "/b")
	w.Run(w.command("run", options{"-d", "--name", "stay"}, []string{"abstract-listen", "stay"})...)
	root := w.rootfs("root")
	for _, dir := range []string{"/proc/self/fd/%d", "/proc/thread-self/fd/%d", "/proc/1/fd/%d/../..", "/dev/fd/%d"} {
		for fd := 3; fd < 16; fd++ {
			cwd := fmt.Sprintf(dir, fd)
			out := w.attack(options{"-w", cwd}, "cwd", secret) + w.inside("stay", options{"-w", cwd}, "cwd", secret)
			if strings.Contains(out, "escaped:") || strings.Contains(out, "unreachable") {
				t.Errorf("-w %s: %s", cwd, out)
			}
			if fd < 9 {
				c := newBundle(t, root, "cwd", secret)
				c.Spec.Process.Cwd = cwd
				if out := c.run(); strings.Contains(out, "escaped:") || strings.Contains(out, "unreachable") {
					t.Errorf("lade-runtime, %s: %s", cwd, out)
				}
			}
		}
	}
	withstood(t, "descriptors of a container", w.attack(nil, "fds"))
	withstood(t, "descriptors of an exec", w.inside("stay", nil, "fds"))
	withstood(t, "descriptors under lade-runtime", newBundle(t, root, "fds").run())
	succeeded(t, "a runtime with an open directory", w.control("naive-cwd", root, secret))
	w.Run("rm", "-f", "stay")
}

// TestCopyRace is CVE-2018-15664 (CVE-2026-41568, CVE-2026-42306): while files
// are copied out of or into a running container, it exchanges a directory of the
// path for a link to the host, a volume's mount point among them.
func TestCopyRace(t *testing.T) {
	w := newWorld(t)
	victim := w.mkdir("victim")
	w.file("victim/file", "the host's", 0o600)
	content := w.file("content/file", "the user's", 0o644)
	for _, o := range []options{nil, {"-v", "vol:/top/d/vol"}} {
		// The container makes its own race, in its own root.
		script := "mkdir -p /top/d; echo mine >/top/d/file; ln -s " + victim + " /top/l; exec /payload exchange 60 /top/d /top/l"
		w.Run(append(append(options{"run", "-d", "--name", "racer", "-v", w.payload + ":/payload:ro"}, o...), harness.Image, "sh", "-c", script)...)
		w.ready("racer")
		for range races {
			var out bytes.Buffer
			cmd := w.Command("docker", "cp", "-L", "racer:/top/d/file", "-")
			cmd.Stdout = &out
			_ = cmd.Run() // it may not be there at the moment
			if strings.Contains(out.String(), "the host's") {
				t.Errorf("%v: copied out: %q", o, out.String())
			}
			_ = w.Command("docker", "cp", content, "racer:/top/d/new").Run()
			_ = w.Command("docker", "cp", content, "racer:/top/d/vol/new").Run()
			list, err := os.ReadDir(victim)
			if err != nil || len(list) != 1 {
				t.Fatalf("%v: copied in: %v, %v", o, list, err)
			}
		}
		w.Run("rm", "-f", "racer")
	}
	root := w.rootfs("root")
	if err := os.Symlink(victim, root+"/d"); err != nil {
		t.Fatal(err)
	}
	succeeded(t, "a daemon that reads by path", w.control("naive-read", root, "d/file"))
}

// TestCopyLoadsNothing is CVE-2019-14271 and CVE-2026-41567: the daemon loads
// libraries or executes programs (unxz, unpigz) of the container while it
// copies. It cannot: it has no loader, and executes nothing.
func TestCopyLoadsNothing(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"laded", "lade-supervisor", "lade-runtime", "lade-init"} {
		if dynamic(t, filepath.Join(harness.Bin(t), name)) {
			t.Errorf("%s is linked dynamically", name)
		}
	}
	if !dynamic(t, "/bin/ls") {
		t.Error("nor is /bin/ls: the look is wrong")
	}
	// Every program of the container leaves a mark when it is executed.
	script := "mkdir -p /usr/bin /usr/local/bin; rm -rf /bin; mkdir /bin; for d in /bin /usr/bin /usr/local/bin; do for p in xz unxz unpigz gzip zstd bzip2 tar; do " +
		"/busybox echo '#!/busybox sh' >$d/$p; /busybox echo '/busybox touch /executed' >>$d/$p; /busybox chmod 755 $d/$p; done; done; exec /busybox sleep 60"
	w.Run("run", "-d", "--name", "box", "-v", "/bin/busybox:/busybox:ro", harness.Image, "/busybox", "sh", "-c",
		"cp() { /busybox cp \"$@\"; }; mkdir() { /busybox mkdir \"$@\"; }; rm() { /busybox rm \"$@\"; }; "+script)
	w.file("in/file", "content", 0o644)
	for _, compress := range []string{"cat", "gzip", "xz", "bzip2"} {
		copied := w.Command("/bin/sh", "-c", "tar -C '"+filepath.Join(w.dir, "in")+"' -c file | "+compress+" | docker cp - box:/")
		out, err := copied.CombinedOutput()
		t.Logf("%s: %v %s", compress, err, out)
		if _, _, code := w.Try("exec", "box", "/busybox", "test", "-e", "/executed"); code == 0 {
			t.Fatalf("%s: a program of the container was executed", compress)
		}
	}
	if out, stderr, code := w.Try("exec", "box", "/busybox", "cat", "/file"); code != 0 || out != "content" {
		t.Errorf("nothing was copied: %s%s", out, stderr)
	}
	// The mark is real.
	w.Run("exec", "box", "/bin/xz")
	if _, _, code := w.Try("exec", "box", "/busybox", "test", "-e", "/executed"); code != 0 {
		t.Error("the container's xz leaves no mark")
	}
}

func dynamic(t *testing.T, path string) bool {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return true
		}
	}
	return false
}

// TestReadOnlyBind tries to write through a read-only bind, with Dirty COW
// (CVE-2016-5195) and Dirty Pipe (CVE-2022-0847) among the ways, as root with
// the default capabilities and with CAP_SYS_ADMIN.
func TestReadOnlyBind(t *testing.T) {
	w := newWorld(t)
	file := w.file("clean/file", "clean", 0o666)
	dir := filepath.Dir(file)
	for _, o := range []options{
		{"-v", dir + ":/data:ro"}, {"--security-opt", "seccomp=unconfined", "-v", dir + ":/data:ro"},
		{"--mount", "type=bind,source=" + dir + ",target=/data,readonly"},
	} {
		withstood(t, strings.Join(o, " "), w.attack(o, "dirty", "/data/file"))
		if b, err := os.ReadFile(file); err != nil || string(b) != "clean" {
			t.Fatalf("%v: the file has %q, %v", o, b, err)
		}
	}
	root := w.rootfs("root")
	c := newBundle(t, root, "dirty", "/data/file")
	c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/data", Type: "bind", Source: dir, Options: []string{"rbind", "ro"}})
	withstood(t, "lade-runtime", c.run())
	if b, err := os.ReadFile(file); err != nil || string(b) != "clean" {
		t.Fatalf("lade-runtime: the file has %q, %v", b, err)
	}
	succeeded(t, "a writable bind", w.attack(options{"-v", dir + ":/data"}, "dirty", "/data/file"))
}
