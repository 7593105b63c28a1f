package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"lade/internal/linux/netns"
	"lade/internal/need"
	"lade/test/harness"
)

// TestPlugins has Docker's client use networks that other programs make: Debian's
// CNI plugins, and a driver of the test's own, whose interfaces are made with
// iproute2.
func TestPlugins(t *testing.T) {
	docker := need.Program(t, "docker", "Docker's client")
	ip := need.Program(t, "ip", "Debian's iproute2")
	need.File(t, "/usr/lib/cni/ptp", "Debian's containernetworking-plugins")
	host, err := netns.New(func(*os.File) error { return exec.Command(ip, "link", "set", "lo", "up").Run() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close() })
	name := fmt.Sprintf("ladetest%d", os.Getpid())
	leases := t.TempDir()
	conf := `{"cniVersion": "1.0.0", "name": "` + name + `", "plugins": [{"type": "ptp", "ipam": {"type": "host-local", "dataDir": "` + leases + `", "subnet": "10.91.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}}]}`
	put(t, "/etc/cni/net.d", name+".conflist", conf)
	e := harness.StartIn(t, host)
	run := func(args ...string) string {
		t.Helper()
		out, err := e.Command(docker, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	address := "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.Gateway}}{{end}}"

	run("network", "create", "-d", "cni", "-o", "conf="+name, "cni")
	run("run", "-d", "--name", "one", "--network", "cni", "lade/hello", "sleep", "1000")
	if got := run("inspect", "-f", address, "one"); got != "10.91.0.2 10.91.0.1" {
		t.Errorf("an address of CNI's: %s", got)
	}
	if got := run("exec", "one", "ip", "route"); !strings.Contains(got, "default via 10.91.0.1 dev eth0") {
		t.Errorf("routes: %s", got)
	}
	e.Kill()
	e.Launch()
	run("restart", "-t", "0", "one")
	if got := run("inspect", "-f", address, "one"); got != "10.91.0.3 10.91.0.1" {
		t.Errorf("after a restart: %s", got)
	}
	run("rm", "-f", "one")
	if left, err := filepath.Glob(leases + "/" + name + "/10.*"); err != nil || len(left) > 0 {
		t.Errorf("leased: %v, %v", left, err)
	}
	run("network", "rm", "cni")

	d := &pairs{t: t, ip: ip, host: host}
	servePlugin(t, name, d)
	run("network", "create", "-d", name, "--subnet", "10.92.0.0/24", "far")
	run("run", "-d", "--name", "two", "lade/hello", "sleep", "1000")
	run("network", "connect", "far", "two")
	if got := run("exec", "two", "ip", "address", "show", "eth1"); !strings.Contains(got, "10.92.0.2/24") {
		t.Errorf("the driver's interface: %s", got)
	}
	if got := run("network", "inspect", "-f", "{{.Driver}} {{range .Containers}}{{.IPv4Address}}{{end}}", "far"); got != name+" 10.92.0.2/24" {
		t.Errorf("inspect: %s", got)
	}
	run("network", "disconnect", "far", "two")
	if got := run("exec", "two", "ip", "address"); strings.Contains(got, "10.92.0.2") {
		t.Errorf("after disconnect: %s", got)
	}
	run("rm", "-f", "two")
	run("network", "rm", "far")
	if got, want := strings.Join(d.calls, " "), "CreateNetwork CreateEndpoint Join Leave DeleteEndpoint DeleteNetwork"; got != want {
		t.Errorf("the driver was told %s, want %s", got, want)
	}
}

// put writes a file into a directory of the host for as long as the test runs.
func put(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Errorf("remove the plugin's file: %v", err)
		}
		for _, d := range []string{dir, filepath.Dir(dir)} {
			os.Remove(d) // if it is empty
		}
	})
}

// pairs is a network driver that makes veth pairs.
type pairs struct {
	t    *testing.T
	ip   string
	host *os.File

	mu    sync.Mutex
	calls []string
}

// servePlugin serves a plugin where the engine looks for them, until stop is called.
func servePlugin(t *testing.T, name string, plugin http.Handler) (stop func()) {
	t.Helper()
	const dir = "/run/docker/plugins"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, d := range []string{dir, filepath.Dir(dir)} {
			os.Remove(d) // if it is empty
		}
	})
	return need.ServeHTTP(t, filepath.Join(dir, name+".sock"), plugin)
}

func (d *pairs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var q struct{ EndpointID string }
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		d.t.Errorf("the engine's request: %v", err)
	}
	answer := any(struct{}{})
	method := strings.TrimPrefix(r.URL.Path, "/NetworkDriver.")
	switch method {
	case "/Plugin.Activate":
		answer = map[string]any{"Implements": []string{"NetworkDriver"}}
	case "Join":
		d.run("link", "add", "e2e-h"+q.EndpointID[:5], "up", "type", "veth", "peer", "name", "e2e-c"+q.EndpointID[:5])
		answer = map[string]any{"InterfaceName": map[string]string{"SrcName": "e2e-c" + q.EndpointID[:5], "DstPrefix": "eth"}}
	case "DeleteEndpoint":
		d.run("link", "del", "e2e-h"+q.EndpointID[:5])
	}
	if method != "/Plugin.Activate" {
		d.calls = append(d.calls, method)
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		d.t.Errorf("the plugin's answer: %v", err)
	}
}

func (d *pairs) run(args ...string) {
	err := netns.Do(d.host, func() error {
		out, err := exec.Command(d.ip, args...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("ip %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return err
	})
	if err != nil {
		d.t.Errorf("the plugin's interface: %v", err)
	}
}
