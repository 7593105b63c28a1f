package daemon

import (
	"context"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"lade/internal/errdefs"
	"lade/internal/need"
	"lade/internal/server"
)

// TestTerms opens sockets on terms of their own, and asks over each of them.
func TestTerms(t *testing.T) {
	dir := t.TempDir()
	open, watch := filepath.Join(dir, "open.sock"), filepath.Join(dir, "watch.sock")
	c, err := Load([]string{"-H", "unix://" + open + "?perm=0600", "-H", "unix://" + watch + "?mode=ro&perm=0666&group=" + strconv.Itoa(os.Getgid())})
	if err != nil {
		t.Fatal(err)
	}
	ls, err := Listen(c, discard())
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]fs.FileMode{open: 0o600, watch: 0o666} {
		if fi, err := os.Stat(p); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", p, fi.Mode(), err)
		}
	}
	// The API itself refuses what a read-only socket does not allow, before it
	// asks the engine, which is why it needs none here.
	api := server.New(nil, server.Options{})
	ctx, stop := context.WithCancel(t.Context())
	var log need.Buffer
	done := make(chan error, 1)
	go func() {
		done <- serve(ctx, api, ls, serveOptions{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), Shutdown: time.Second})
	}()
	status := func(socket, method, path string) int {
		t.Helper()
		tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}}
		req, err := http.NewRequestWithContext(t.Context(), method, "http://x"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := (&http.Client{Transport: tr}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	for _, x := range []struct {
		socket, method, path string
		status               int
	}{
		{open, "GET", "/_ping", 200},
		{watch, "GET", "/_ping", 200},
		{open, "POST", "/plugins/pull", 501},
		{watch, "POST", "/build", 403},
		{watch, "GET", "/containers/x/archive", 403},
	} {
		if got := status(x.socket, x.method, x.path); got != x.status {
			t.Errorf("%s %s at %s: %d", x.method, x.path, filepath.Base(x.socket), got)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if want := "pid=" + strconv.Itoa(os.Getpid()) + " uid=" + strconv.Itoa(os.Getuid()); !strings.Contains(log.String(), want) {
		t.Errorf("no %s in\n%s", want, &log)
	}
	for _, bad := range []string{"unix:///x?mode=maybe", "unix:///x?perm=999", "unix:///x?perm=10000", "tcp://127.0.0.1:1?group=x", "unix:///x?colour=red", "unix:///x?%"} {
		if _, err := Load([]string{"-H", bad}); errdefs.KindOf(err) != errdefs.Invalid || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, err := Load([]string{"-H", "tcp://127.0.0.1:1?mode=ro"}); err != nil {
		t.Error(err)
	}
}
