package authz_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"lade/internal/need"
	"lade/internal/plugin"
	"lade/internal/server/authz"
)

// judge is a plugin that answers as it is told and remembers what it was asked.
type judge struct {
	implements string
	verdict    func(method string, q map[string]any) any

	mu    sync.Mutex
	asked []map[string]any // guarded by mu
}

func (j *judge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := strings.TrimPrefix(r.URL.Path, "/")
	if method == "Plugin.Activate" {
		json.NewEncoder(w).Encode(map[string][]string{"Implements": {j.implements}})
		return
	}
	var q map[string]any
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	q["method"] = strings.TrimPrefix(method, "AuthZPlugin.")
	j.mu.Lock()
	j.asked = append(j.asked, q)
	j.mu.Unlock()
	switch v := j.verdict(q["method"].(string), q).(type) {
	case int:
		http.Error(w, "broken", v)
	case string:
		io.WriteString(w, v)
	default:
		json.NewEncoder(w).Encode(v)
	}
}

// listen serves the plugin under a name.
func (j *judge) listen(t *testing.T, dir, name string) {
	t.Helper()
	need.ServeHTTP(t, filepath.Join(dir, name+".sock"), j)
}

type verdict struct {
	Allow    bool
	Msg, Err string
}

func always(v any) func(string, map[string]any) any {
	return func(string, map[string]any) any { return v }
}

// ask sends a request through the plugins to a handler.
func ask(t *testing.T, dir string, names []string, h http.HandlerFunc, method, path, body string) (int, string) {
	t.Helper()
	c := authz.NewChain(names, plugin.Dirs{Sockets: []string{dir}, Specs: []string{dir}})
	s := httptest.NewServer(c.Handler(h, func(r *http.Request) string { return r.URL.RequestURI() }, slog.New(slog.DiscardHandler)))
	defer s.Close()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Registry-Auth", "secret")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return res.StatusCode, err.Error()
	}
	return res.StatusCode, string(b)
}

// say is a handler that must not leave a trace when the plugin forbids.
func say(text string, done *bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		*done = true
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, text)
	}
}

// TestAsked: a plugin sees what is asked for, the body of a request and of its
// answer, and no credentials.
func TestAsked(t *testing.T) {
	dir, done := t.TempDir(), false
	j := &judge{implements: "authz", verdict: always(verdict{Allow: true})}
	j.listen(t, dir, "judge")
	code, body := ask(t, dir, []string{"judge"}, say(`{"Id":"1"}`, &done), "POST", "/v1.50/containers/create?name=a", `{"Image":"x"}`)
	if code != http.StatusCreated || body != `{"Id":"1"}` || len(j.asked) != 2 {
		t.Fatalf("%d %s after %v", code, body, j.asked)
	}
	req, res := j.asked[0], j.asked[1]
	if req["method"] != "AuthZReq" || req["RequestMethod"] != "POST" || req["RequestURI"] != "/v1.50/containers/create?name=a" || req["RequestBody"] != "eyJJbWFnZSI6IngifQ==" {
		t.Errorf("asked %v", req)
	}
	headers := req["RequestHeaders"].(map[string]any)
	if headers["Content-Type"] != "application/json" || headers["X-Registry-Auth"] != nil {
		t.Errorf("headers %v", headers)
	}
	if res["method"] != "AuthZRes" || res["ResponseStatusCode"] != 201.0 || res["ResponseBody"] != "eyJJZCI6IjEifQ==" {
		t.Errorf("asked %v", res)
	}
}

// TestDenied: who is not allowed, or cannot be asked, does nothing, and hears
// of it in Docker's words.
func TestDenied(t *testing.T) {
	onAnswer := func(method string, _ map[string]any) any {
		return verdict{Allow: method == "AuthZReq", Msg: "not that"}
	}
	for _, x := range []struct {
		name       string
		implements string
		verdict    func(string, map[string]any) any
		plugins    []string
		status     int
		message    string
		done       bool
	}{
		{"refused", "authz", always(verdict{Msg: "not you"}), []string{"judge"}, 403, "authorization denied by plugin judge: not you", false},
		{"failed", "authz", always(verdict{Allow: true, Err: "no database"}), []string{"judge"}, 500, "plugin judge failed with error: no database", false},
		{"broken", "authz", always(500), []string{"judge"}, 500, "plugin judge failed with error: plugin judge: 500 Internal Server Error: broken", false},
		{"no JSON", "authz", always("hm"), []string{"judge"}, 500, "plugin judge failed with error: plugin judge: its answer cannot be read: ", false},
		{"no verdict", "authz", always("{}"), []string{"judge"}, 403, "authorization denied by plugin judge: ", false},
		{"another kind", "NetworkDriver", always(verdict{Allow: true}), []string{"judge"}, 500, `plugin judge failed with error: plugin judge does not implement "authz"`, false},
		{"away", "authz", always(verdict{Allow: true}), []string{"judge", "nobody"}, 500, `plugin nobody failed with error: plugin "nobody" not found`, false},
		{"bad name", "authz", always(verdict{Allow: true}), []string{"../judge"}, 500, "plugin ../judge failed with error: invalid plugin name", false},
		{"answer refused", "authz", onAnswer, []string{"judge"}, 403, "authorization denied by plugin judge: not that", true},
	} {
		t.Run(x.name, func(t *testing.T) {
			dir, done := t.TempDir(), false
			(&judge{implements: x.implements, verdict: x.verdict}).listen(t, dir, "judge")
			code, body := ask(t, dir, x.plugins, say(`{"secret":1}`, &done), "POST", "/containers/create", "{}")
			var m struct{ Message string }
			if err := json.Unmarshal([]byte(body), &m); err != nil || code != x.status || !strings.HasPrefix(m.Message, x.message) || done != x.done {
				t.Errorf("%d %s, done %v", code, body, done)
			}
		})
	}
}

// TestLarge: what a plugin would not see to its end is not done.
func TestLarge(t *testing.T) {
	dir, done := t.TempDir(), false
	j := &judge{implements: "authz", verdict: always(verdict{Allow: true})}
	j.listen(t, dir, "judge")
	code, body := ask(t, dir, []string{"judge"}, say("{}", &done), "POST", "/containers/create", `{"Env":["`+strings.Repeat("x", 1<<20)+`"]}`)
	if code != http.StatusForbidden || done {
		t.Errorf("%d %s, done %v", code, body, done)
	}
}

// TestStream: the plugin is asked before the first byte of a stream, and a
// refusal is a whole answer that ends the handler.
func TestStream(t *testing.T) {
	for _, allow := range []bool{true, false} {
		dir := t.TempDir()
		(&judge{implements: "authz", verdict: func(m string, _ map[string]any) any { return verdict{Allow: m == "AuthZReq" || allow, Msg: "no"} }}).listen(t, dir, "judge")
		failed := false
		code, body := ask(t, dir, []string{"judge"}, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusOK)
			if http.NewResponseController(w).Flush() != nil {
				failed = true
				panic(http.ErrAbortHandler) // as the server does
			}
			io.WriteString(w, "line\n")
		}, "GET", "/events", "")
		if allow && (code != 200 || body != "line\n") || !allow && (code != 403 || !strings.Contains(body, "denied by plugin judge")) || failed == allow {
			t.Errorf("%d %q", code, body)
		}
	}
}

// TestTakenOver: neither is a connection taken over without consent.
func TestTakenOver(t *testing.T) {
	for _, allow := range []bool{true, false} {
		dir := t.TempDir()
		(&judge{implements: "authz", verdict: func(m string, _ map[string]any) any { return verdict{Allow: m == "AuthZReq" || allow} }}).listen(t, dir, "judge")
		code, body := ask(t, dir, []string{"judge"}, func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nyours")
			c.Close()
		}, "POST", "/attach", "")
		if allow && (code != 200 || body != "yours") || !allow && code != 403 {
			t.Errorf("%d %q", code, body)
		}
	}
}

// TestReturns: a plugin that was away is found again, also at another place.
func TestReturns(t *testing.T) {
	dir := t.TempDir()
	c := authz.NewChain([]string{"judge"}, plugin.Dirs{Specs: []string{dir}})
	h := c.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), func(*http.Request) string { return "/" }, slog.New(slog.DiscardHandler))
	get := func() int {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
		return rec.Code
	}
	if code := get(); code != 500 {
		t.Errorf("without a plugin: %d", code)
	}
	for range 2 {
		s := httptest.NewServer(&judge{implements: "authz", verdict: always(verdict{Allow: true})})
		spec, _ := json.Marshal(plugin.Address{Name: "judge", Addr: "tcp://" + s.Listener.Addr().String()})
		if err := os.WriteFile(filepath.Join(dir, "judge.json"), spec, 0o600); err != nil {
			t.Fatal(err)
		}
		get() // may still ask at the old place
		if code := get(); code != 200 {
			t.Errorf("with a plugin: %d", code)
		}
		s.Close()
	}
	if code := get(); code != 500 {
		t.Errorf("without a plugin: %d", code)
	}
	c.Replace(nil)
	if code := get(); code != 200 {
		t.Errorf("without plugins: %d", code)
	}
}

// TestCanonical: a path that only looks like another does not deceive.
func TestCanonical(t *testing.T) {
	for want, x := range map[string][3]string{
		"/v1.50/containers/json?all=1":    {"1.50", "/containers/json", "all=1"},
		"/images/a/b:c/json":              {"", "/images/a/b:c/json", ""},
		"/containers/%00/json":            {"", "/containers/\x00/json", ""},
		"/v1.24/containers/a%3Fb=c/start": {"1.24", "/containers/a?b=c/start", ""},
	} {
		if got := authz.Canonical(x[0], x[1], x[2]); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
