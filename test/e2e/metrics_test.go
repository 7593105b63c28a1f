package e2e

import (
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"lade/internal/need"
	"lade/test/harness"
)

// TestMetrics burns processor time and memory in a container, and finds them in
// the numbers; nothing else can be asked for at their address.
func TestMetrics(t *testing.T) {
	need.Root(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	e := harness.Start(t, "--metrics-addr", address)
	get := func(path string) (int, string) {
		t.Helper()
		res, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}
	value := func(text, series string) float64 {
		t.Helper()
		m := regexp.MustCompile(`(?m)^` + series + ` (\S+)$`).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("no %s in\n%s", series, text)
		}
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	e.Run("run", "-d", "--name", "busy", "--memory", "64m", "lade/hello", "sh", "-c", "head -c 209715200 /dev/zero | wc -c; exec sleep 1000")
	e.Run("run", "-d", "--name", "idle", "lade/hello", "sleep", "1000")
	e.Run("exec", "busy", "true")
	e.Run("pause", "idle")
	for end := time.Now().Add(need.Patience(30 * time.Second)); strings.TrimSpace(e.Run("logs", "busy")) != "209715200"; {
		if time.Now().After(end) {
			t.Fatal("the container busy has not read its bytes")
		}
	}
	code, text := get("/metrics")
	if code != 200 {
		t.Fatalf("GET /metrics: %d %s", code, text)
	}
	const of = `\{id="[0-9a-f]{64}",image="lade/hello",name="busy"`
	if s := value(text, "container_cpu_usage_seconds_total"+of+`,cpu="total"\}`); s < 0.005 || s > 60 {
		t.Errorf("%v s", s)
	}
	if b := value(text, "container_memory_usage_bytes"+of+`\}`); b < 1<<16 || b > 64<<20 {
		t.Errorf("%v bytes", b)
	}
	if b := value(text, "container_spec_memory_limit_bytes"+of+`\}`); b != 64<<20 {
		t.Errorf("a limit of %v bytes", b)
	}
	value(text, "container_network_receive_bytes_total"+of+`,interface="eth0"\}`)
	for state, want := range map[string]float64{"running": 1, "paused": 1, "stopped": 0} {
		if n := value(text, `engine_daemon_container_states_containers\{state="`+state+`"\}`); n != want {
			t.Errorf("containers in a state: %v %s", n, state)
		}
	}
	if n := value(text, `lade_operation_duration_seconds_count\{operation="ContainerStart"\}`); n != 2 {
		t.Errorf("%v starts", n)
	}
	for _, path := range []string{"/info", "/v1.44/containers/json", "/metrics/../info"} {
		if code, body := get(path); code != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}
