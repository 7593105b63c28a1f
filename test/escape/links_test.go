package escape

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/need"
)

// link makes a symbolic link in a root directory in the place of what is there.
func link(t *testing.T, target, root, name string) {
	t.Helper()
	p := filepath.Join(root, name)
	if err := os.RemoveAll(p); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, p); err != nil {
		t.Fatal(err)
	}
}

// TestNullLink is CVE-2026-88265: the image has a link as /dev/null, to a file of
// the host that the container has been given, and nothing is mounted on /dev. A
// runtime that opens the null device again by its name makes the file a standard
// stream, and gives it to the container's user.
func TestNullLink(t *testing.T) {
	w := newWorld(t)
	root, file := w.rootfs("root"), w.file("file", "the host's", 0o600)
	link(t, file, root, "dev/null")
	succeeded(t, "a naive look-up", w.control("naive-read", root, "dev/null"))
	c := newBundle(t, root, "streams")
	c.without("/dev")
	c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: file, Type: "bind", Source: file, Options: []string{"bind"}})
	c.Spec.Process.User = specs.User{UID: 1000, GID: 1000}
	withstood(t, "lade-runtime", c.run())
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil || st.Uid != 0 || st.Gid != 0 || st.Size != int64(len("the host's")) {
		t.Errorf("the host's file is of %d:%d, %d bytes, %v", st.Uid, st.Gid, st.Size, err)
	}
}

// TestConsoleLink is CVE-2026-88264: the image has a link as /dev/console, and
// nothing is mounted on /dev, so that the terminal is put in place through it: on
// the host, a runtime that does so before it has changed the root makes a file.
func TestConsoleLink(t *testing.T) {
	w := newWorld(t)
	root, victim := w.rootfs("root"), w.mkdir("victim")
	made := filepath.Join(victim, "made")
	link(t, made, root, "dev/console")
	c := newBundle(t, root, "mounted", made)
	c.Spec.Mounts = append(c.Spec.Mounts[:0:0], c.Spec.Mounts...)
	for i, m := range c.Spec.Mounts {
		if m.Destination == "/dev" { // the image's own is seen
			c.Spec.Mounts = append(c.Spec.Mounts[:i], c.Spec.Mounts[i+1:]...)
			break
		}
	}
	c.Spec.Process.Terminal = true
	out := c.terminal()
	untouched(t, victim)
	// What the link leads to in the container's own root is as good as any.
	if !strings.Contains(out, made+": device") && !strings.Contains(out, "/dev/console") {
		t.Errorf("lade-runtime: %s", out)
	}
}

// terminal runs the container to its end with a terminal, and returns what it said
// there, or why it did not start.
func (b *bundle) terminal() string {
	b.t.Helper()
	socket := filepath.Join(b.t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		b.t.Fatal(err)
	}
	defer l.Close()
	if err := l.SetDeadline(time.Now().Add(need.Patience(bounded))); err != nil {
		b.t.Fatal(err)
	}
	cmd, id := b.command("create", "--console-socket", socket)
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return said.String() + err.Error()
	}
	defer func() {
		if out, err := b.runtime("delete", "--force", id); err != nil {
			b.t.Errorf("delete: %v %s", err, out)
		}
	}()
	conn, err := l.AcceptUnix()
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close()
	text, control := make([]byte, 100), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(text, control)
	if err != nil {
		b.t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		b.t.Fatalf("%v, %v", messages, err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		b.t.Fatal(err)
	}
	master := os.NewFile(uintptr(fds[0]), "terminal")
	defer master.Close()
	if out, err := b.runtime("start", id); err != nil {
		b.t.Fatalf("start: %v %s", err, out)
	}
	out, _ := io.ReadAll(master) // ends with EIO
	return string(out)
}

// TestReadOnlyRoot is CVE-2026-115521: the image has a /proc of its own, whose
// self/fd leads elsewhere, so that what a runtime does to an open mount by that name
// happens to another one: the root stays writable.
func TestReadOnlyRoot(t *testing.T) {
	w := newWorld(t)
	root, data := w.rootfs("root"), w.mkdir("data")
	w.file("data/file", "", 0o666)
	for fd := range 64 {
		link(t, "/data", root, "proc/self/fd/"+strconv.Itoa(fd))
		link(t, "/data", root, "proc/thread-self/fd/"+strconv.Itoa(fd))
	}
	for _, readonly := range []bool{true, false} {
		c := newBundle(t, root, "attempt", "/etc/passwd")
		c.without("/proc")
		c.Spec.Linux.MaskedPaths, c.Spec.Linux.ReadonlyPaths = nil, nil
		c.Spec.Root.Readonly = readonly
		c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/data", Type: "bind", Source: data, Options: []string{"bind"}})
		if readonly {
			withstood(t, "lade-runtime", c.run())
		} else {
			succeeded(t, "a root that is not read-only", c.run())
		}
	}
}
