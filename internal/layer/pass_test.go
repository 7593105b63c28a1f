package layer

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/xattr"
	"lade/internal/need"
	"lade/internal/tarpass"
)

// socketPair returns two ends between which descriptors are passed.
func socketPair(t *testing.T) (a, b *tarpass.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	end := func(fd int) *tarpass.Conn {
		f := os.NewFile(uintptr(fd), "socket")
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		conn := tarpass.New(c.(*net.UnixConn))
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	return end(fds[0]), end(fds[1])
}

// TestPassed: a tree whose large files are passed arrives as through a stream,
// with its holes.
func TestPassed(t *testing.T) {
	need.Root(t)
	src, dst := t.TempDir(), t.TempDir()
	large := strings.Repeat("large ", 100000)
	apply(t, src, tarOf(t, dir("d", 0o750), reg("d/large", large), hardlink("d/again", "d/large"), reg("d/small", "s"), symlink("d/link", "large")), ApplyOptions{})
	holes, err := os.Create(filepath.Join(src, "d/holes"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holes.WriteAt([]byte("end"), 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(holes.Truncate(2<<30), holes.Chmod(os.ModeSetuid|0o755), xattr.Set(int(holes.Fd()), "user.x", []byte("y")), holes.Close()); err != nil {
		t.Fatal(err)
	}
	a, b := socketPair(t)
	sent := make(chan error, 1)
	go func() {
		sent <- errors.Join(Pack(t.Context(), openDir(t, src), "/d", PackOptions{}, a), a.CloseWrite())
	}()
	if err := errors.Join(Unpack(t.Context(), openDir(t, dst), "/", b, UnpackOptions{}), <-sent); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	path := filepath.Join(dst, "d/holes")
	if err := unix.Stat(path, &st); err != nil || st.Size != 2<<30 || st.Blocks*512 > 1<<20 || st.Mode&0o7777 != 0o4755 {
		t.Errorf("holes: %d bytes, %d on disk, mode %o, %v", st.Size, st.Blocks*512, st.Mode, err)
	}
	if v, err := xattr.GetAt(int(openDir(t, filepath.Join(dst, "d")).Fd()), "holes", "user.x"); err != nil || string(v) != "y" {
		t.Errorf("attribute %q, %v", v, err)
	}
	if err := errors.Join(os.Remove(path), os.Remove(holes.Name())); err != nil {
		t.Fatal(err)
	}
	expect(t, tree(t, dst), tree(t, src))
}

// TestPassedLies: a stream that announces what does not come, or passes what is
// no file, is refused, and a name leads nowhere else than in any stream.
func TestPassedLies(t *testing.T) {
	need.Root(t)
	root := rootfs(t)
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("outside"), 0o600); err != nil {
		t.Fatal(err)
	}
	announce := func(name, size string) []byte {
		h := reg(name, "")
		h.PAXRecords = map[string]string{tarpass.Record: size}
		return tarOf(t, h)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	file, err := os.Open(outside)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for name, c := range map[string]struct {
		stream []byte
		file   *os.File
	}{
		"nothing comes":  {announce("f", "100"), nil},
		"a device comes": {announce("f", "100"), null},
		"no number":      {announce("f", "many"), file},
		"negative":       {announce("f", "-3"), file},
		"outside":        {announce("../f", "7"), file},
	} {
		a, b := socketPair(t)
		if c.file != nil {
			a.Pass(int(c.file.Fd()))
		}
		if _, err := a.Write(c.stream); err != nil {
			t.Fatal(err)
		}
		if err := a.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if err := Unpack(t.Context(), root, "/etc", b, UnpackOptions{}); errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Through a link of the container the file lands inside it.
	a, b := socketPair(t)
	a.Pass(int(file.Fd()))
	if _, err := a.Write(announce("out/landed", "7")); err != nil {
		t.Fatal(err)
	}
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := Unpack(t.Context(), root, "/", b, UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(root.Name(), "landed")); err != nil || string(got) != "outside" {
		t.Errorf("%q, %v", got, err)
	}
	// A peer that goes away ends the copy.
	a, b = socketPair(t)
	a.Pass(int(file.Fd()))
	if _, err := a.Write(announce("gone", "7")); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Unpack(t.Context(), root, "/", b, UnpackOptions{}); !errors.Is(err, unix.EPIPE) && !errors.Is(err, io.EOF) {
		t.Errorf("the peer has gone: %v", err)
	}
}
