package tarpass

import (
	"archive/tar"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// pair returns two connected ends.
func pair(t *testing.T) (a, b *Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	end := func(fd int) *Conn {
		f := os.NewFile(uintptr(fd), "socket")
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		conn := New(c.(*net.UnixConn))
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	return end(fds[0]), end(fds[1])
}

func regular(t *testing.T, content string) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestOrder: descriptors arrive with their bytes, in order, however much is read
// at once.
func TestOrder(t *testing.T) {
	a, b := pair(t)
	go func() {
		for _, s := range []string{"one", "two"} {
			f := regular(t, "file "+s)
			a.Pass(int(f.Fd()))
			if _, err := io.WriteString(a, s); err != nil {
				t.Error(err)
			}
			f.Close()
		}
		if err := a.CloseWrite(); err != nil {
			t.Error(err)
		}
	}()
	if got, err := io.ReadAll(b); err != nil || string(got) != "onetwo" {
		t.Fatalf("%q, %v", got, err)
	}
	for _, want := range []string{"file one", "file two"} {
		f, err := b.Take()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil || string(got) != want {
			t.Errorf("%q, %v", got, err)
		}
	}
	if _, err := b.Take(); errdefs.KindOf(err) != errdefs.Invalid {
		t.Errorf("one more: %v", err)
	}
}

// TestProbe: both ends find out whether descriptors come through.
func TestProbe(t *testing.T) {
	a, b := pair(t)
	asked := make(chan error, 1)
	go func() { asked <- a.Ask() }()
	if err := errors.Join(b.Answer(), <-asked); err != nil {
		t.Error(err)
	}
	a, b = pair(t)
	go func() {
		_, err := a.Write([]byte{0}) // a proxy lost the descriptor
		asked <- err
	}()
	if err := errors.Join(<-asked, b.Answer()); err == nil {
		t.Error("no descriptor came, and the answer is yes")
	}
}

// TestStrangers: what a peer could hold a reader up with, or see through its
// eyes, is refused.
func TestStrangers(t *testing.T) {
	pipe, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer w.Close()
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	proc, err := os.Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, f := range []*os.File{pipe, dir, proc, null} {
		a, b := pair(t)
		a.Pass(int(f.Fd()))
		if _, err := a.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(b, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Take(); errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("%s: %v", f.Name(), err)
		}
	}
}

// TestFlood: more descriptors than a message of ours has are an error, and none
// of them stays open.
func TestFlood(t *testing.T) {
	a, b := pair(t)
	f := regular(t, "x")
	many := make([]int, most+10)
	for i := range many {
		many[i] = int(f.Fd())
	}
	if _, _, err := a.conn.WriteMsgUnix([]byte("x"), unix.UnixRights(many...), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(make([]byte, 10)); errdefs.KindOf(err) != errdefs.Invalid {
		t.Error(err)
	}
	before := open(t)
	if n := len(b.got); n == 0 || n > most {
		t.Errorf("%d descriptors are kept", n)
	}
	kept := len(b.got)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if after := open(t); before-after != kept+1 {
		t.Errorf("%d descriptors were open, %d are now", before, after)
	}
}

func open(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestGone: a peer that closed is seen without reading, one that has sent all is
// not taken for it.
func TestGone(t *testing.T) {
	a, b := pair(t)
	if err := b.Gone(); err != nil {
		t.Error(err)
	}
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := b.Gone(); err != nil {
		t.Errorf("it only sent all: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Gone(); !errors.Is(err, unix.EPIPE) {
		t.Errorf("it has closed: %v", err)
	}
}

// TestHeaders: what is announced is read back, and lies are refused.
func TestHeaders(t *testing.T) {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: "f", Size: 1 << 40}
	if got := Announce(h); got != 1<<40 || h.Size != 0 {
		t.Errorf("%d, %d in the stream", got, h.Size)
	}
	if size, ok, err := Announced(h); size != 1<<40 || !ok || err != nil {
		t.Errorf("%d, %v, %v", size, ok, err)
	}
	if _, ok, err := Announced(&tar.Header{Name: "f", Size: 3}); ok || err != nil {
		t.Errorf("an ordinary entry: %v, %v", ok, err)
	}
	for _, bad := range []*tar.Header{
		{Typeflag: tar.TypeReg, Size: 1, PAXRecords: map[string]string{Record: "1"}},
		{Typeflag: tar.TypeReg, PAXRecords: map[string]string{Record: "-1"}},
		{Typeflag: tar.TypeReg, PAXRecords: map[string]string{Record: "99999999999999999999"}},
		{Typeflag: tar.TypeSymlink, Linkname: "x", PAXRecords: map[string]string{Record: "1"}},
	} {
		if _, ok, err := Announced(bad); ok || errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("%+v: %v, %v", bad, ok, err)
		}
	}
}

// TestQuickPeer: whoever answers the probe, and all that follows, and closes before
// the prober has run again has not failed it.
func TestQuickPeer(t *testing.T) {
	for range 2000 {
		a, b := pair(t)
		go func() {
			if b.Answer() == nil {
				_, _ = io.WriteString(b, "all")
			}
			b.Close()
		}()
		if err := a.Ask(); err != nil {
			t.Fatal(err)
		}
		if all, err := io.ReadAll(a); string(all) != "all" || err != nil {
			t.Fatalf("%q, %v", all, err)
		}
		a.Close()
	}
}
