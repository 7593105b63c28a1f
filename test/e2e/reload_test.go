package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lade/internal/need"
	"lade/test/harness"
)

// TestReload changes daemon.json under a running daemon: new containers get
// what it says, the one that runs keeps what it has.
func TestReload(t *testing.T) {
	need.Root(t)
	need.Program(t, "docker", "docker-cli")
	e := harness.Start(t)
	e.Run("run", "-d", "--name", "old", "lade/hello", "sleep", "1000")
	began := time.Now()
	if err := os.WriteFile(filepath.Join(e.Dir, "daemon.json"), []byte(`{
		"labels": ["tier=second"], "log-opts": {"max-size": "3m"}, "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 77, "Hard": 77}},
		"runtimes": {"mine": {"path": "/bin/true"}}, "dns": ["192.0.2.7"]
	}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(e.Pid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(need.Patience(30 * time.Second)); len(info(t, e).Labels) == 0; {
		if time.Now().After(end) {
			t.Fatal(e.Log())
		}
	}
	i := info(t, e)
	if _, ok := i.Runtimes["mine"]; !ok || i.Labels[0] != "tier=second" {
		t.Errorf("runtimes and labels after a reload: %v, %v", i.Runtimes, i.Labels)
	}
	if out := e.Run("run", "--rm", "lade/hello", "sh", "-c", "ulimit -n; cat /etc/resolv.conf"); !strings.HasPrefix(out, "77\n") || !strings.Contains(out, "nameserver 192.0.2.7") {
		t.Errorf("a new container: %s", out)
	}
	e.Run("create", "--name", "new", "lade/hello")
	out := e.Run("inspect", "--format", "{{.HostConfig.LogConfig.Config}} {{len .HostConfig.Ulimits}}", "new", "old")
	if want := "map[max-size:3m] 1\nmap[] 0"; out != want {
		t.Errorf("log options and ulimits of new and old: %q", out)
	}
	out = e.Run("events", "--since", began.Format(time.RFC3339Nano), "--until", time.Now().Format(time.RFC3339Nano), "--filter", "type=daemon")
	if !strings.Contains(out, "daemon reload ") || !strings.Contains(out, "labels=[tier=second]") {
		t.Errorf("events: %q", out)
	}
}
