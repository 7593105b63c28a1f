package bundle

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/sys"
	"lade/internal/need"
	"lade/internal/runtime"
)

func create(t *testing.T, root string) *Bundle {
	t.Helper()
	b, err := Create(root, "one", Runtime{Name: "x", Kind: "oci", Path: "/x", Args: []string{"--a"}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBundle(t *testing.T) {
	root := t.TempDir()
	if _, err := Open(root, "one"); !errors.Is(err, errdefs.NotFound) {
		t.Errorf("none: %v", err)
	}
	b := create(t, root)
	if err := b.Write("rest", nil); err != nil {
		t.Fatal(err)
	}
	b = create(t, root) // in the place of a leftover
	if _, err := os.Stat(b.Path("rest")); !os.IsNotExist(err) {
		t.Errorf("the leftover's file: %v", err)
	}
	got, err := Open(root, "one")
	if err != nil || got.Runtime.Name != "x" || got.Runtime.Args[0] != "--a" || got.Started() {
		t.Errorf("%+v, %v", got, err)
	}
	if err := got.SetStarted(); err != nil || !b.Started() {
		t.Errorf("not started: %v", err)
	}
	for range 2 {
		if err := b.Remove(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(b.Dir); !os.IsNotExist(err) {
		t.Errorf("%v", err)
	}
}

// A supervisor may be lost in the middle of a removal.
func TestHalfRemoved(t *testing.T) {
	root := t.TempDir()
	b := create(t, root)
	if err := os.Remove(b.Path("runtime.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(root, "one"); !errors.Is(err, errdefs.NotFound) {
		t.Errorf("half of a bundle is opened: %v", err)
	}
	if _, err := os.Stat(b.Dir); !os.IsNotExist(err) {
		t.Errorf("half of a bundle stays: %v", err)
	}
}

func TestConsole(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 50)) // than an address can be
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sock, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(sock)
	if err := unix.Connect(sock, &unix.SockaddrUnix{Name: c.Path()}); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := unix.Sendmsg(sock, []byte("terminal"), unix.UnixRights(int(w.Fd())), nil, 0); err != nil {
		t.Fatal(err)
	}
	fd, err := c.Receive()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	if _, err := c.Receive(); !errors.Is(err, errdefs.Unavailable) {
		t.Errorf("nothing was sent: %v", err)
	}
}

// TestAttached mounts a root where a command sees it and nobody else does.
func TestAttached(t *testing.T) {
	need.Root(t)
	b := create(t, t.TempDir())
	source := t.TempDir()
	if err := os.MkdirAll(source+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(source+"/etc/passwd", []byte("app:x:12:13::/home/app:/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := mounts(t)
	c := &runtime.Container{
		ID: "one", User: "app", NetNS: -1, Init: true, Rootfs: runtime.Rootfs{Path: source},
		Spec: &specs.Spec{Process: &specs.Process{Args: []string{"true"}}, Linux: &specs.Linux{}},
	}
	root, s, err := b.Prepare(c, "/init", sys.Probe(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	u := s.Process.User
	if u.UID != 12 || u.GID != 13 || strings.Join(s.Process.Env, " ") != "HOME=/home/app" || strings.Join(s.Process.Args, " ") != "/sbin/docker-init -- true" ||
		s.Mounts[0].Source != "/init" || s.Root.Path != b.Rootfs() {
		t.Errorf("%+v %+v", s.Process, s.Mounts)
	}
	if len(c.Spec.Mounts) != 0 || c.Spec.Process.User.UID != 0 {
		t.Errorf("the caller's specification was changed: %+v", c.Spec)
	}
	var out []byte
	err = b.Attached(root, func() error {
		out, err = exec.Command("ls", b.Rootfs()).CombinedOutput()
		return err
	})
	if err != nil || string(out) != "etc\n" {
		t.Errorf("the command sees %q, %v", out, err)
	}
	if seen, err := os.ReadDir(b.Rootfs()); err != nil || len(seen) != 0 {
		t.Errorf("we see %v, %v", seen, err)
	}
	if after := mounts(t); after != before {
		t.Errorf("mounts of the host:\n%s", after)
	}
	c.User = "nobody-there"
	if _, _, err := b.Prepare(c, "/init", sys.Probe(), nil); err == nil {
		t.Error("a user that is not there")
	}
}

// mounts are the host's below the directory for temporary files.
func mounts(t *testing.T) (out string) {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if strings.Contains(line, "/bundles/") && strings.Contains(line, t.Name()) {
			out += line
		}
	}
	return out
}
