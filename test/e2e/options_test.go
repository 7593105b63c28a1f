package e2e

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// TestDaemonOptions shows what options of dockerd do that say something to clients,
// or change what is made when nothing else is said.
func TestDaemonOptions(t *testing.T) {
	need.Root(t)
	need.Program(t, "docker", "docker-cli")
	e := harness.Start(t, "--experimental", "--feature=buildkit=false", "--host-gateway-ip=192.0.2.9", "--host-gateway-ip=2001:db8::9",
		"--default-network-opt=bridge=com.docker.network.driver.mtu=1333", "--oom-score-adjust=77")
	docker := client(t, e)

	w := wired(t, e)
	res, err := w.http.Get("http://lade/_ping")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	for header, want := range map[string]string{"Docker-Experimental": "true", "Builder-Version": "1"} {
		if got := res.Header.Get(header); res.StatusCode != http.StatusOK || got != want {
			t.Errorf("%s: %s", header, got)
		}
	}
	if got := docker("info", "--format", "{{.ExperimentalBuild}}") + docker("version", "--format", "{{.Server.Experimental}}"); got != "true\ntrue\n" {
		t.Errorf("experimental: %s", got)
	}

	hosts := docker("run", "--rm", "--add-host", "host:host-gateway", "lade/hello", "cat", "/etc/hosts")
	for _, want := range []string{"192.0.2.9\thost\n", "2001:db8::9\thost\n"} {
		if !strings.Contains(hosts, want) {
			t.Errorf("no %q in %s", want, hosts)
		}
	}

	docker("network", "create", "plain")
	docker("network", "create", "-o", "com.docker.network.driver.mtu=1400", "said")
	for network, mtu := range map[string]string{"plain": "1333", "said": "1400", "bridge": "1500"} {
		if got := docker("run", "--rm", "--network", network, "lade/hello", "cat", "/sys/class/net/eth0/mtu"); got != mtu+"\n" {
			t.Errorf("mtu in %s: %s", network, got)
		}
	}
	docker("network", "rm", "plain", "said")

	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", e.Pid()))
	if err != nil || string(raw) != "77\n" {
		t.Errorf("the daemon's oom_score_adj: %q %v", raw, err)
	}
	if got := docker("run", "--rm", "lade/hello", "cat", "/proc/self/oom_score_adj"); got != "0\n" {
		t.Errorf("a container's: %q", got)
	}
}
