package builder

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lade/internal/build"
	"lade/internal/errdefs"
	"lade/internal/image/imagetest"
	"lade/internal/linux/cgroup"
	"lade/internal/need"
	"lade/internal/snapshot"
)

// storage is a driver that only has a name.
type storage struct{ snapshot.Snapshotter }

func (storage) Name() string { return "vfs" }

// newBuilder returns one with a program in dir, which it ends soon.
func newBuilder(t *testing.T, dir string) *Builder {
	t.Helper()
	need.Root(t)
	cgroups, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cgroups.Close)
	return New(Config{
		Programs: Programs{Build: filepath.Join(dir, "lade-build")}, Root: filepath.Join(dir, "cache"), Run: filepath.Join(dir, "run"),
		Images: imagetest.New(t), Snapshots: storage{}, Cgroups: cgroups, Group: "/lade-test-builder/build-x",
		Settings: func(*build.Config) {}, Idle: time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
}

// TestEnding: who comes while an idle lade-build ends gets another one, not the
// end of that.
func TestEnding(t *testing.T) {
	dir := t.TempDir()
	b := newBuilder(t, dir)
	script := "#!/bin/sh\ncd " + dir + "\necho begun >>log\ncat >/dev/null\necho ending >>log\nwhile [ ! -e go ]; do sleep 0.02; done\n"
	if err := os.WriteFile(b.c.Build, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	log := func() string {
		raw, err := os.ReadFile(filepath.Join(dir, "log"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return string(raw)
	}
	first, err := b.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	need.Eventually(t, "an idle builder ends", func() bool { return strings.Contains(log(), "ending") })
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := b.Dial(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while it ends: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	second, err := b.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	need.Eventually(t, "another one begins", func() bool { return log() == "begun\nending\nbegun\n" })
	if err := errors.Join(second.Close(), b.Close()); err != nil {
		t.Error(err)
	}
}

// TestLateNetwork: what a lade-build that has ended had asked for is not made, as
// nobody would give it back.
func TestLateNetwork(t *testing.T) {
	dir := t.TempDir()
	b := newBuilder(t, dir) // without networks: to make one would panic
	b.mu.Lock()
	err := b.open()
	b.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", b.host.path)
	}}}
	defer c.CloseIdleConnections()
	for _, end := range []func() error{
		func() error { return nil }, // one that nobody knows
		func() error { b.host.answerTo(os.Getpid()); return b.host.disconnectAll(t.Context()) },
	} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		r, err := c.Post("http://host/networks/step", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || r.StatusCode != http.StatusInternalServerError || !strings.Contains(string(said), "has ended") || len(b.host.networks) != 0 {
			t.Errorf("%d %q, %v; networks %v", r.StatusCode, said, err, b.host.networks)
		}
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// TestMissing: without lade-build nothing is started or made, and the error says
// which file is missing.
func TestMissing(t *testing.T) {
	dir := t.TempDir()
	b := newBuilder(t, dir)
	if err := b.Recover(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := b.Dial(t.Context()); errdefs.KindOf(err) != errdefs.Unavailable || !strings.Contains(err.Error(), filepath.Join(dir, "lade-build")) {
		t.Errorf("dial: %v", err)
	}
	if all, err := b.Usage(t.Context()); err != nil || len(all) != 0 || b.Kept() {
		t.Errorf("usage: %v, %v, kept: %v", all, err, b.Kept())
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if _, err := b.Dial(context.Background()); errdefs.KindOf(err) != errdefs.Unavailable {
		t.Errorf("after Close: %v", err)
	}
}
