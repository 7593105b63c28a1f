package server

import (
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"lade/internal/errdefs"
	"lade/internal/netrate"
)

func TestSplit(t *testing.T) {
	for _, x := range []struct{ path, version, escaped string }{
		{"/v1.50/containers/json", "1.50", "/containers/json"},
		{"/containers/a/json", "", "/containers/a/json"},
		{"//v1.24//containers//a//json", "1.24", "/containers/a/json"},
		{"/v1.50/containers/../images/json", "1.50", "/images/json"},
		{"/images/ghcr.io/a/b:tag/json", "", "/images/ghcr.io%2Fa%2Fb:tag/json"},
		{"/images/a/b", "", "/images/a%2Fb"},
		{"/v1.41/images/a/b@sha256:00/history", "1.41", "/images/a%2Fb@sha256:00/history"},
		{"/images/json", "", "/images/json"},
		{"/images/json/json", "", "/images/json/json"},
		{"/distribution/a/b/json", "", "/distribution/a%2Fb/json"},
		{"/containers/a/b/attach/ws", "", "/containers/a%2Fb/attach/ws"},
		{"/containers/a/checkpoints/c", "", "/containers/a/checkpoints/c"},
		{"/volumes/v1", "", "/volumes/v1"},
		{"/v1.x/info", "", "/v1.x/info"},
		{"/version", "", "/version"},
		{"/", "", "/"},
	} {
		if v, e := split(x.path); v != x.version || e != x.escaped {
			t.Errorf("split(%q) = %q, %q", x.path, v, e)
		}
	}
}

func TestRouting(t *testing.T) {
	for _, x := range []struct {
		method, path string
		status       int
		called       string
	}{
		{"GET", "/v1.30/containers/json", 200, "ContainerList"},
		{"GET", "/v1.24/containers/json", 200, "ContainerList"},
		{"GET", "/containers//x/json", 200, "ContainerInspect"},
		{"GET", "/images/ghcr.io/a/b:tag/json", 200, "ImageInspect"},
		{"DELETE", "/images/a/b", 200, "ImageRemove"},
		{"GET", "/v1.23/info", 400, ""},
		{"GET", "/v2.0/info", 400, ""},
		{"POST", "/info", 404, ""},
		{"GET", "/volumes/create/x", 404, ""},
		{"POST", "/build", 404, "BuildDial"},
		{"POST", "/build/cancel", 400, ""},
		{"POST", "/session", 400, ""},
		{"POST", "/grpc", 400, ""},
		{"DELETE", "/networks/x", 204, "NetworkRemove"},
		{"POST", "/networks/x/connect", 200, "NetworkConnect"},
		{"POST", "/swarm/leave", 503, ""},
		{"GET", "/tasks", 503, ""},
		{"POST", "/services/create", 503, ""},
		{"GET", "/nodes/x", 503, ""},
		{"DELETE", "/secrets/x", 204, "SecretRemove"},
		{"DELETE", "/configs/x", 204, "ConfigRemove"},
	} {
		f := &fake{}
		if strings.HasSuffix(x.called, "Inspect") {
			f.body = []byte("{}")
		}
		rec := httptest.NewRecorder()
		New(f, Options{}).ServeHTTP(rec, httptest.NewRequest(x.method, x.path, nil))
		if rec.Code != x.status || f.called != x.called {
			t.Errorf("%s %s: %d, called %q: %s", x.method, x.path, rec.Code, f.called, rec.Body)
		}
		if x.status == http.StatusNotImplemented && !regexp.MustCompile(`^\{"message":"[A-Z]\w+ is not implemented"\}\n$`).MatchString(rec.Body.String()) {
			t.Errorf("%s %s: %s", x.method, x.path, rec.Body)
		}
	}
}

func TestStatus(t *testing.T) {
	for k := errdefs.Internal; k.Error() != "unknown kind"; k++ {
		want := map[errdefs.Kind]int{
			errdefs.Invalid: 400, errdefs.Unauthorized: 401, errdefs.Forbidden: 403, errdefs.NotFound: 404, errdefs.Conflict: 409,
			errdefs.NotModified: 304, errdefs.Unavailable: 503, errdefs.NotImplemented: 501, errdefs.Internal: 500,
			errdefs.Exhausted: 500, errdefs.Canceled: 500, errdefs.Deadline: 500, errdefs.DataLoss: 500,
		}[k]
		if got := status(&errdefs.Error{Kind: k}); got != want || want == 0 {
			t.Errorf("status(%v) = %d, want %d", k, got, want)
		}
	}
	// A missing file of ours is not a missing object of the user's.
	if got := status(os.ErrNotExist); got != http.StatusInternalServerError {
		t.Error(got)
	}
}

func TestQuery(t *testing.T) {
	q := query{"a": {"1"}, "b": {"False"}, "c": {"None"}, "d": {""}, "e": {"x"}, "t": {"12.5"}, "u": {"1.0000000019"}, "z": {"0"}}
	for name, want := range map[string]bool{"a": true, "b": false, "c": false, "d": false, "e": true, "missing": false} {
		if q.bool(name) != want {
			t.Errorf("bool(%s) = %v", name, !want)
		}
	}
	if !q.boolOr("missing", true) || q.boolOr("d", true) {
		t.Error("boolOr")
	}
	for name, want := range map[string]time.Time{"t": time.Unix(12, 500000000), "u": time.Unix(1, 1), "z": {}, "missing": {}} {
		if got, err := q.time(name); err != nil || !got.Equal(want) {
			t.Errorf("time(%s) = %v, %v", name, got, err)
		}
	}
}

func TestPlatform(t *testing.T) {
	for in, want := range map[string]string{
		"linux/x86_64": "linux/amd64/", "linux/arm64/v8": "linux/arm64/", "linux/arm/7": "linux/arm/v7", "aarch64": "linux/arm64/", "Linux/AMD64": "linux/amd64/",
	} {
		p, err := parsePlatform(in)
		if err != nil || p.OS+"/"+p.Architecture+"/"+p.Variant != want {
			t.Errorf("%s: %+v %v", in, p, err)
		}
	}
	if _, err := parsePlatform("linux/"); errdefs.KindOf(err) != errdefs.Invalid {
		t.Error(err)
	}
	if p, err := oneJSONPlatform([]string{`{"os":"linux","architecture":"aarch64"}`}); err != nil || p.Architecture != "arm64" {
		t.Error(p, err)
	}
	if _, err := oneJSONPlatform([]string{"{"}); errdefs.KindOf(err) != errdefs.Invalid {
		t.Error(err)
	}
}

// TestBodies: what clients send beside what we know does no harm.
func TestBodies(t *testing.T) {
	for _, x := range []struct {
		path, media, body string
		status            int
		says              string
	}{
		{"/containers/create", "application/json", `{"Image":"x","Nonsense":{"a":1}}`, 201, ""},
		{"/containers/create", "application/json; charset=utf-8", `{"Image":"x"}`, 201, ""},
		{"/containers/create", "application/json", `{}`, 400, "config cannot be empty in order to create a container"},
		{"/containers/create", "", ``, 400, "config cannot be empty in order to create a container"},
		{"/containers/create", "application/json", ` `, 400, "invalid JSON: got EOF while reading request body"},
		{"/containers/create", "application/json", `{"Image":"x"}{}`, 400, "unexpected content after JSON"},
		{"/containers/create", ";", `{"Image":"x"}`, 400, "malformed Content-Type header (;): mime: no media type"},
		{"/containers/create?platform=a/b/c/d", "application/json", `{"Image":"x"}`, 400, "a/b/c/d"},
		{"/volumes/create", "", "", 201, ""},
		{"/containers/x/stop?t=x", "", "", 400, "strconv.Atoi"},
		{"/containers/x/archive?path=", "", "", 404, ""},
	} {
		req := httptest.NewRequest("POST", x.path, strings.NewReader(x.body))
		if x.media != "" {
			req.Header.Set("Content-Type", x.media)
		}
		rec := httptest.NewRecorder()
		New(&fake{}, Options{}).ServeHTTP(rec, req)
		if rec.Code != x.status || !strings.Contains(rec.Body.String(), x.says) {
			t.Errorf("%s %q: %d %s", x.path, x.body, rec.Code, rec.Body)
		}
	}
}

// TestCreateVersions: what older versions meant by the same body.
func TestCreateVersions(t *testing.T) {
	const body = `{"Image":"x","MacAddress":"02:00:00:00:00:01","HostConfig":{"NetworkMode":"n1","PidsLimit":0,"ConsoleSize":[1,2],"Annotations":{"a":"b"}}}`
	for version, check := range map[string]func(*fake) bool{
		"1.56": func(f *fake) bool { return f.create.Networking == nil && f.create.HostConfig.CgroupnsMode == "" },
		"1.51": func(f *fake) bool {
			return f.create.Networking.EndpointsConfig["n1"].MacAddress.String() == "02:00:00:00:00:01" && f.create.HostConfig.Annotations["a"] == "b"
		},
		"1.44": func(f *fake) bool { return !f.create.ReadOnlyNonRecursive },
		"1.43": func(f *fake) bool { return f.create.ReadOnlyNonRecursive },
		"1.41": func(f *fake) bool {
			h := f.create.HostConfig
			return h.ConsoleSize == [2]uint{} && h.Annotations == nil && h.CgroupnsMode == "" && f.create.Platform != nil
		},
		"1.40": func(f *fake) bool {
			return f.create.HostConfig.CgroupnsMode == "host" && f.create.Platform == nil && f.create.HostConfig.IpcMode == ""
		},
		"1.39": func(f *fake) bool {
			return f.create.HostConfig.IpcMode == "shareable" && f.create.HostConfig.PidsLimit == nil
		},
	} {
		f := &fake{}
		req := httptest.NewRequest("POST", "/v"+version+"/containers/create?platform=linux", strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		New(f, Options{}).ServeHTTP(rec, req)
		if rec.Code != http.StatusCreated || !check(f) {
			t.Errorf("%s: %d %s %+v", version, rec.Code, rec.Body, f.create.HostConfig)
		}
	}
}

// TestRates: lade's own fields reach the engine beside Docker's, and errors in
// Docker's are named as ever.
func TestRates(t *testing.T) {
	for _, x := range []struct {
		path, body, says string
		check            func(*fake) bool
	}{
		{"/containers/create", `{"Image":"x","HostConfig":{"Memory":7,"NetRateIn":1000000,"NetRateOut":"10mbit","NetBurst":65536}}`, "", func(f *fake) bool {
			r := f.create.NetRates
			return *r.NetRateIn == 1e6 && *r.NetRateOut == 1e7 && *r.NetBurst == 65536 && f.create.HostConfig.Memory == 7
		}},
		{"/containers/create", `{"Image":"x","HostConfig":{}}`, "", func(f *fake) bool { return f.create.NetRates == netrate.Asked{} }},
		{"/containers/a/update", `{"Memory":7,"NetRateIn":0}`, "", func(f *fake) bool {
			return *f.update.NetRateIn == 0 && f.update.NetRateOut == nil && f.update.Memory == 7
		}},
		{"/containers/create", `{"Image":"x","HostConfig":{"NetRateIn":"fast"}}`, `invalid JSON: invalid network rate \"fast\": a number of bits per second is needed, as in 100mbit, 1.5g or 64000`, nil},
		{"/containers/a/update", `{"NetRateOut":-1}`, `invalid JSON: invalid network rate \"-1\"`, nil},
		{"/containers/a/update", `{"NetBurst":"x"}`, "invalid JSON: json: cannot unmarshal string into Go struct field UpdateConfig.NetBurst of type int64", nil},
		{"/containers/a/update", `{"Memory":"x"}`, "invalid JSON: json: cannot unmarshal string into Go struct field UpdateConfig.Resources.Memory of type int64", nil},
	} {
		f := &fake{}
		req := httptest.NewRequest("POST", x.path, strings.NewReader(x.body))
		req.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		New(f, Options{}).ServeHTTP(rec, req)
		if x.check != nil && (rec.Code >= 400 || !x.check(f)) || x.check == nil && (rec.Code != http.StatusBadRequest || !strings.Contains(rec.Body.String(), x.says)) {
			t.Errorf("%s %s: %d %s", x.path, x.body, rec.Code, rec.Body)
		}
	}
}

func BenchmarkPing(b *testing.B) {
	h := New(&fake{}, Options{Version: "x"})
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("HEAD", "/_ping", nil))
	}
}
