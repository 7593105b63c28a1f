package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"lade/internal/need"
	"lade/test/harness"
	"lade/test/swagger"
)

// api asks an engine over its socket, without a library that would hide what it
// says, and checks each answer against the contract of its version.
type api struct {
	t      *testing.T
	client *http.Client
	specs  map[int]*swagger.Spec
	asked  map[string]bool // operations of the newest contract that answered as wanted
}

func newAPI(t *testing.T, socket string) *api {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	tr := &http.Transport{DialContext: dial}
	t.Cleanup(tr.CloseIdleConnections)
	a := &api{t: t, client: &http.Client{Transport: tr}, specs: map[int]*swagger.Spec{}, asked: map[string]bool{}}
	for minor := swagger.Oldest; minor <= swagger.Newest; minor++ {
		a.specs[minor] = swagger.Load(t, minor)
	}
	return a
}

// ask sends a request of version 1.minor and returns the answer, which must
// have the status. Version 1.24 has no contract and is held to that of 1.25.
func (a *api) ask(minor int, method, path, body string, want int) []byte {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, "http://lade/v1."+strconv.Itoa(minor)+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := a.client.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	if res.StatusCode != want {
		a.t.Errorf("v1.%d %s %s: %d %s", minor, method, path, res.StatusCode, b)
		return b
	}
	name, _, _ := strings.Cut(path, "?")
	values := [][]byte{b}
	if strings.HasPrefix(path, "/events") {
		values = bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	}
	for _, v := range values {
		for _, wrong := range a.specs[max(minor, swagger.Oldest)].Check(method, name, res.StatusCode, v) {
			a.t.Errorf("%s in %s", wrong, v)
		}
	}
	if o, ok := a.specs[swagger.Newest].Find(method, name); ok && res.StatusCode < 300 {
		a.asked[o.ID] = true
	}
	return b
}

// text asks and takes a text out of the answer.
func (a *api) text(minor int, method, path, body string, want int, field string) string {
	a.t.Helper()
	var m map[string]any
	if err := json.Unmarshal(a.ask(minor, method, path, body, want), &m); err != nil {
		a.t.Fatal(err)
	}
	s, _ := m[field].(string)
	if s == "" {
		a.t.Fatalf("%s %s: no %s in %v", method, path, field, m)
	}
	return s
}

// TestContract holds what a busy engine answers, in every version of the API,
// against the contract of that version: no field that no version has, none of
// another type, none missing that is required.
func TestContract(t *testing.T) {
	need.Root(t)
	e := harness.Start(t)
	a := newAPI(t, e.Socket)
	const newest = swagger.Newest
	begin := time.Now()

	e.Run("network", "create", "--ipv6", "--subnet", "10.213.7.0/24", "--subnet", "fd00:213::/64", "--label", "a=b", "backend")
	e.Run("volume", "create", "--label", "a=b", "data")
	e.Run("run", "-d", "--name", "full", "--annotation", "a=b", "-p", "127.0.0.1::80", "-p", "127.0.0.1::53/udp",
		"-v", "data:/data", "--tmpfs", "/scratch", "--mount", "type=bind,source=/etc,target=/host,readonly", "-e", "A=b", "-l", "a=b", "-m", "64m", "--cpus", "0.5",
		"--pids-limit", "50", "--ulimit", "nofile=100:200", "--health-cmd", "true", "--health-interval", "100ms", "--user", "0:0", "--restart", "on-failure:3", "--device", "/dev/null", "--add-host", "h:10.0.0.1",
		"--dns", "10.0.0.2", "--sysctl", "net.ipv4.ip_forward=1", "--cap-add", "SYS_TIME", "--cap-drop", "MKNOD", "--security-opt", "no-new-privileges", "--log-opt", "max-size=1m",
		"--blkio-weight", "0", "--group-add", "10", "--init", "--read-only", "--shm-size", "32m", "--stop-signal", "INT", "--stop-timeout", "3", "--entrypoint", "sleep", "lade/hello", "1000")
	e.Run("run", "-d", "--name", "member", "--network", "backend", "--network-alias", "db", "--ip", "10.213.7.7", "lade/hello", "sleep", "1000")
	if _, _, code := e.Try("run", "--name", "done", "lade/hello", "sh", "-c", "echo made >/made; exit 3"); code != 3 {
		t.Errorf("exit code %d", code)
	}
	e.Run("run", "-d", "--name", "bare", "--network", "none", "lade/hello", "sleep", "1000")
	e.Run("run", "-d", "--name", "host", "--network", "host", "--pid", "host", "--ipc", "host", "--privileged", "lade/hello", "sleep", "1000")
	e.Run("create", "--name", "new", "-it", "lade/hello")
	exec := a.text(newest, "POST", "/containers/full/exec", `{"Cmd":["sleep","1000"],"Tty":false}`, 201, "Id")
	a.ask(newest, "POST", "/exec/"+exec+"/start", `{"Detach":true}`, 200)

	need.Eventually(t, "a health check runs", func() bool { return strings.Contains(e.Run("inspect", "full"), `"Output":`) })
	now := time.Now()
	past := fmt.Sprintf("/events?since=%d&until=%d.%09d", begin.Unix(), now.Unix(), now.Nanosecond())
	for minor := 24; minor <= newest; minor++ {
		for _, path := range []string{
			"/info", "/version", "/system/df", "/containers/json?all=1&size=1", "/containers/json?limit=1",
			"/containers/full/json", "/containers/full/json?size=1", "/containers/done/json", "/containers/bare/json", "/containers/member/json", "/containers/host/json", "/containers/new/json",
			"/containers/full/top", "/containers/done/changes", "/exec/" + exec + "/json",
			"/images/json", "/images/json?all=1&shared-size=1&manifests=1", "/images/lade/hello/json", "/images/lade/hello/history",
			"/networks", "/networks/backend", "/networks/backend?verbose=1", "/networks/bridge", "/networks/none", "/volumes", "/volumes/data", "/plugins",
			past,
		} {
			a.ask(minor, "GET", path, "", 200)
		}
		for _, path := range []string{"/containers/nope/json", "/images/nope/json", "/networks/nope", "/volumes/nope", "/exec/nope/json"} {
			a.ask(minor, "GET", path, "", 404)
		}
		a.ask(minor, "GET", "/containers/json?filters=%7B%22nope%22%3A%5B%22x%22%5D%7D", "", 400)
		a.ask(minor, "GET", "/swarm", "", 503)
	}
	for _, minor := range []int{24, 40, newest} {
		id := a.text(minor, "POST", "/containers/create", `{"Image":"lade/hello","Cmd":["true"],"HostConfig":{"Memory":8388608,"MemorySwappiness":10}}`, 201, "Id")
		a.ask(minor, "POST", "/containers/"+id+"/start", "", 204)
		a.ask(minor, "POST", "/containers/"+id+"/wait", "", 200)
		a.ask(minor, "POST", "/containers/"+id+"/update", `{"Memory":16777216,"MemorySwap":-1}`, 200)
		a.ask(minor, "POST", "/containers/"+id+"/rename?name=other", "", 204)
		a.ask(minor, "POST", "/commit?container=other&repo=made", `{}`, 201)
		a.ask(minor, "POST", "/containers/create?name=full", `{"Image":"lade/hello"}`, 409)
		a.ask(minor, "POST", "/containers/prune?filters=%7B%22label%22%3A%5B%22none%22%5D%7D", "", 200)
		a.ask(minor, "DELETE", "/containers/other", "", 204)
		a.ask(minor, "POST", "/images/made/tag?repo=more&tag=x", "", 201)
		a.ask(minor, "DELETE", "/images/more:x", "", 200)
		a.ask(minor, "DELETE", "/images/made", "", 200)
		a.ask(minor, "POST", "/images/prune", "", 200)
		a.ask(minor, "POST", "/volumes/create", `{"Name":"vol","Labels":{"x":"y"}}`, 201)
		a.ask(minor, "POST", "/networks/create", `{"Name":"n","CheckDuplicate":true}`, 201)
		a.ask(minor, "POST", "/networks/n/connect", `{"Container":"bare2"}`, 404)
		a.ask(minor, "DELETE", "/networks/n", "", 204)
		a.ask(minor, "POST", "/networks/prune?filters=%7B%22label%22%3A%5B%22none%22%5D%7D", "", 200)
		a.ask(minor, "DELETE", "/volumes/vol", "", 204)
		a.ask(minor, "POST", "/volumes/prune?filters=%7B%22label%22%3A%5B%22none%22%5D%7D", "", 200)
		a.ask(minor, "POST", "/build/prune", "", 200)
	}
	a.ask(newest, "GET", "/containers/full/stats?stream=false", "", 200)
	// A field that a real Docker fills is there.
	for _, x := range []struct {
		minor      int
		path, file string
	}{
		{50, "/version", "01-system/0002-GET-v1.50_version.json"},
		{50, "/info", "01-system/0004-GET-v1.50_info.json"},
		{40, "/info", "01-system/0010-GET-v1.40_info.json"},
		{50, "/images/json", "02-images/0028-GET-v1.50_images_json.json"},
		{41, "/images/json", "02-images/0032-GET-v1.41_images_json.json"},
		{50, "/images/lade/hello/json", "02-images/0035-GET-v1.50_images_busybox_json.json"},
		{40, "/images/lade/hello/json", "02-images/0036-GET-v1.40_images_busybox_json.json"},
		{50, "/images/lade/hello/history", "02-images/0038-GET-v1.50_images_busybox_history.json"},
		{50, "/containers/full/json", "03-run/0088-GET-v1.50_containers_full_json.json"},
		{40, "/containers/full/json", "03-run/0089-GET-v1.40_containers_full_json.json"},
		{44, "/containers/full/json", "03-run/0090-GET-v1.44_containers_full_json.json"},
		{55, "/containers/full/json?size=1", "03-run/0091-GET-containers_full_json.json"},
		{50, "/containers/json?all=1&size=1", "03-run/0093-GET-v1.50_containers_json.json"},
		{55, "/containers/json?all=1&size=1", "03-run/0094-GET-containers_json.json"},
		{40, "/containers/json?all=1&size=1", "03-run/0095-GET-v1.40_containers_json.json"},
		{50, "/containers/full/stats?stream=0", "03-run/0105-GET-v1.50_containers_full_stats.json"},
		{50, "/exec/" + exec + "/json", "03-run/0124-GET-v1.50_exec.json"},
		{50, "/networks/bridge", "06-networks/0257-GET-v1.50_networks_bridge.json"},
		{50, "/networks/backend", "06-networks/0280-GET-v1.50_networks_n2.json"},
		{50, "/networks/backend", "06-networks/0281-GET-v1.50_networks_n6.json"},
		{50, "/containers/member/json", "06-networks/0283-GET-v1.50_containers_w1_json.json"},
		{55, "/networks", "06-networks/0314-GET-networks.json"},
		{50, "/volumes", "07-volumes/0324-GET-v1.50_volumes.json"},
		{50, "/volumes/data", "07-volumes/0326-GET-v1.50_volumes_v1.json"},
		{55, "/system/df", "01-system/0013-GET-system_df.json"},
		{41, "/system/df", "01-system/0014-GET-v1.41_system_df.json"},
	} {
		for _, f := range a.missing(x.file, a.ask(x.minor, "GET", x.path, "", 200)) {
			t.Errorf("v1.%d %s: no %s, which Docker has", x.minor, x.path, f)
		}
	}
	if len(a.asked) < 38 {
		t.Errorf("%d operations were asked for: %v", len(a.asked), a.asked)
	}
}

// TestFilters: a filter that does not exist, or that has a value which cannot
// be, is refused in Docker's words by every list and every prune, and nothing
// is removed then.
func TestFilters(t *testing.T) {
	need.Root(t)
	e := harness.Start(t)
	a := newAPI(t, e.Socket)
	e.Run("create", "--name", "kept", "lade/hello")
	e.Run("network", "create", "kept")
	e.Run("volume", "create", "kept")
	const newest = swagger.Newest
	for _, x := range []struct{ method, path, filters, says string }{
		{"GET", "/containers/json", `{"colour":["red"]}`, "invalid filter 'colour'"},
		{"GET", "/containers/json", `{"status":["flying"]}`, "invalid filter 'status=flying': invalid value for state (flying): must be one of created, running, paused, restarting, removing, exited, dead"},
		{"GET", "/containers/json", `{"health":["fine"]}`, "invalid filter 'health=fine': invalid value for health (fine): must be one of none, starting, healthy, unhealthy"},
		{"GET", "/containers/json", `{"exited":["often"]}`, "invalid filter 'exited=often'"},
		{"GET", "/containers/json", `{"is-task":["maybe"]}`, "invalid filter 'is-task=[maybe]'"},
		{"GET", "/containers/json", `{"label":"x"}`, "invalid filter"},
		{"GET", "/images/json", `{"colour":["red"]}`, "invalid filter 'colour'"},
		{"GET", "/images/json", `{"dangling":["maybe"]}`, "invalid filter 'dangling=[maybe]'"},
		{"GET", "/images/json", `{"until":["soon"]}`, `failed to parse "soon" as time or duration`},
		{"GET", "/networks", `{"colour":["red"]}`, "invalid filter 'colour'"},
		{"GET", "/networks", `{"type":["odd"]}`, "invalid filter: 'type'='odd'"},
		{"GET", "/volumes", `{"colour":["red"]}`, "invalid filter 'colour'"},
		{"GET", "/volumes", `{"dangling":["maybe"]}`, "invalid filter 'dangling=[maybe]'"},
		{"GET", "/plugins", `{"colour":["red"]}`, "invalid filter 'colour'"},
		{"POST", "/containers/prune", `{"dangling":["true"]}`, "invalid filter 'dangling'"},
		{"POST", "/containers/prune", `{"until":["1h","2h"]}`, "more than one until filter specified"},
		{"POST", "/images/prune", `{"all":["true"]}`, "invalid filter 'all'"},
		{"POST", "/images/prune", `{"dangling":["maybe"]}`, "invalid filter 'dangling=[maybe]'"},
		{"POST", "/networks/prune", `{"dangling":["true"]}`, "invalid filter 'dangling'"},
		{"POST", "/volumes/prune", `{"until":["1h"]}`, "invalid filter 'until'"},
		{"POST", "/volumes/prune", `{"all":["maybe"]}`, "invalid filter 'all=[maybe]'"},
		{"POST", "/build/prune", `[]`, "invalid filter"},
	} {
		path := x.path + "?" + url.Values{"filters": {x.filters}}.Encode()
		if says := a.text(newest, x.method, path, "", 400, "message"); says != x.says {
			t.Errorf("%s %s %s: %q", x.method, x.path, x.filters, says)
		}
	}
	for _, kind := range []string{"container", "network", "volume"} {
		e.Run(kind, "inspect", "kept")
	}
}
