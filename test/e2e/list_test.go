package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"reflect"
	"strconv"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// wire is a client of the API without a library.
type wire struct {
	t    *testing.T
	http http.Client
}

func wired(t *testing.T, e *harness.Engine) *wire {
	w := &wire{t: t}
	w.http.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", e.Socket)
	}}
	t.Cleanup(w.http.CloseIdleConnections)
	return w
}

// do asks, and reads the answer into v unless that is nil. That a container is not
// in the state for it is one of the answers that are expected (500 of unpause).
func (w *wire) do(method, path, body string, v any) {
	w.t.Helper()
	q, err := http.NewRequestWithContext(w.t.Context(), method, "http://lade"+path, bytes.NewReader([]byte(body)))
	if err != nil {
		w.t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/json")
	res, err := w.http.Do(q)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 400 && res.StatusCode != http.StatusConflict && !bytes.Contains(raw, []byte("is not paused")) {
		w.t.Fatalf("%s %s %s: %s %v %s", method, path, body, res.Status, err, raw)
	}
	if v != nil {
		if err := json.Unmarshal(raw, v); err != nil {
			w.t.Fatalf("%s %s: %v %s", method, path, err, raw)
		}
	}
}

// TestListAfterChanges: after each change of a random history the list of all
// containers, which is put together from what was written before, shows what
// system df makes of the same containers anew.
func TestListAfterChanges(t *testing.T) {
	need.Root(t)
	e := harness.Start(t)
	e.Import()
	w := wired(t, e)
	w.do("POST", "/v1.56/networks/create", `{"Name":"n"}`, nil)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	h := &listHistory{wire: w, r: rand.New(rand.NewPCG(seed, 0))}
	for range 150 {
		h.step()
		h.check()
	}
	e.Run(append([]string{"rm", "-f"}, h.names...)...)
}

// listHistory is what a random client does.
type listHistory struct {
	*wire
	r     *rand.Rand
	made  int
	names []string
	last  string
}

func (h *listHistory) step() {
	i := h.r.IntN(max(len(h.names), 1))
	if len(h.names) < 4 || len(h.names) < 10 && h.r.IntN(8) == 0 {
		name := "c" + strconv.Itoa(h.made)
		h.made++
		health := []string{`["NONE"]`, `["CMD","true"]`}[h.r.IntN(2)]
		h.post("/containers/create?name="+name, fmt.Sprintf(`{"Image":%q,"Cmd":["sleep","1000"],"Labels":{"a":%q},"ExposedPorts":{"80/tcp":{}},
			"Healthcheck":{"Test":%s,"Interval":1000000000},"HostConfig":{"NetworkMode":%q,"PortBindings":{"81/tcp":[{"HostIp":"127.0.0.1"}]}}}`, harness.Image, name, health, []string{"bridge", "n"}[h.r.IntN(2)]))
		h.names = append(h.names, name)
		return
	}
	c := "/containers/" + h.names[i]
	switch h.r.IntN(11) {
	case 0, 1, 2:
		h.post(c+"/start", "")
	case 3:
		h.post(c+"/stop?t=0", "")
	case 4:
		h.post(c+"/kill", "")
	case 5:
		h.post(c+"/pause", "")
	case 6:
		h.post(c+"/unpause", "")
	case 7:
		name := "c" + strconv.Itoa(h.made)
		h.made++
		h.post(c+"/rename?name="+name, "")
		h.names[i] = name
	case 8:
		h.post(c+"/update", `{"LabelsSet":{"b":"`+strconv.Itoa(h.made)+`"}}`)
	case 9:
		h.post("/images/"+harness.Image+"/tag?repo=again&tag=t"+strconv.Itoa(h.made), "")
	case 10:
		h.last = "DELETE " + c
		h.do("DELETE", "/v1.56"+c+"?force=1", "", nil)
		h.names = append(h.names[:i], h.names[i+1:]...)
	}
}

func (h *listHistory) post(path, body string) {
	h.last = path
	h.do("POST", "/v1.56"+path, body, nil)
}

// summaries are containers by id, without sizes and without what disk usage does
// not show.
func summaries(list []map[string]any) map[string]map[string]any {
	out := map[string]map[string]any{}
	for _, s := range list {
		delete(s, "SizeRw")
		delete(s, "SizeRootFs")
		delete(s, "ImageManifestDescriptor")
		out[s["Id"].(string)] = s
	}
	return out
}

func (h *listHistory) check() {
	h.t.Helper()
	list := func() map[string]map[string]any {
		var all []map[string]any
		h.do("GET", "/v1.56/containers/json?all=1", "", &all)
		return summaries(all)
	}
	var df struct {
		ContainerUsage struct{ Items []map[string]any }
	}
	before := list()
	h.do("GET", "/v1.56/system/df?type=container&verbose=1", "", &df)
	after := list()
	anew := summaries(df.ContainerUsage.Items)
	if len(after) != len(h.names) || len(anew) != len(h.names) {
		h.t.Fatalf("after %s: %d listed, %d there, of %d", h.last, len(after), len(anew), len(h.names))
	}
	for id, s := range anew { // it is looked at once, so it is one of the two if a clock moved on or a process ended
		if !reflect.DeepEqual(s, before[id]) && !reflect.DeepEqual(s, after[id]) {
			h.t.Fatalf("after %s:\nanew   %v\nbefore %v\nafter  %v", h.last, s, before[id], after[id])
		}
	}
}
