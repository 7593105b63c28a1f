package e2e

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// TestCopyThroughProxy: where descriptors do not come through, as a proxy passes
// on bytes only, large files are copied in the ordinary way.
func TestCopyThroughProxy(t *testing.T) {
	need.Root(t)
	e := harness.Start(t)
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "proxy"))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			all.Go(func() { relay(c.(*net.UnixConn), e.Socket) })
		}
	})
	want := bytes.Repeat([]byte("large file "), 100000)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, want, 0o600); err != nil {
		t.Fatal(err)
	}
	e.Run("run", "-d", "--name", "box", "lade/hello", "sleep", "1000")
	for _, args := range [][]string{{file, "box:/in"}, {"box:/in", filepath.Join(dir, "out")}} {
		cmd := e.Command("lade", append([]string{"-H", "unix://" + l.Addr().String(), "cp"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("cp %v: %v\n%s", args, err, out)
		}
	}
	if got, err := os.ReadFile(filepath.Join(dir, "out")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes that differ, %v", len(got), err)
	}
	e.Run("rm", "-f", "box")
}

// relay passes bytes on between a connection and a socket, both ways.
func relay(c *net.UnixConn, socket string) {
	defer c.Close()
	to, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return // the client sees the end
	}
	defer to.Close()
	var both sync.WaitGroup
	for _, way := range []struct{ from, to *net.UnixConn }{{c, to}, {to, c}} {
		both.Go(func() {
			_, _ = io.Copy(struct{ io.Writer }{way.to}, struct{ io.Reader }{way.from})
			_ = way.to.CloseWrite() // it may be gone
		})
	}
	both.Wait()
}
