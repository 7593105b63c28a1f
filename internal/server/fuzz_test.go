package server

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzSplit: whatever the path, the mux gets one that is clean, escaped and
// says the same without its version.
func FuzzSplit(f *testing.F) {
	for _, p := range []string{"/v1.50/images/a/b:c/json", "//", "/containers/%2F/json", "/v1/..", "/images/\x00/json"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		_, escaped := split(p)
		plain, err := url.PathUnescape(escaped)
		if err != nil || !strings.HasPrefix(escaped, "/") || strings.Contains(escaped, "//") || strings.HasPrefix(escaped+"/", "/../") {
			t.Errorf("split(%q) = %q, %v", p, escaped, err)
		}
		if (&url.URL{Path: plain, RawPath: escaped}).EscapedPath() != escaped {
			t.Errorf("split(%q) = %q is not an escape of %q", p, escaped, plain)
		}
	})
}

// FuzzCreate: no body makes the server fail.
func FuzzCreate(f *testing.F) {
	f.Add("1.56", `{"Image":"x","HostConfig":{"Mounts":[{"Type":"bind","ReadOnly":true}]},"NetworkingConfig":{"EndpointsConfig":{"a":null}}}`)
	f.Add("1.24", `{"MacAddress":"02:00:00:00:00:01","Image":"x","Healthcheck":{}}`)
	f.Add("1.43", `{"HostConfig":null,"NetworkingConfig":{},"Tty":true}`)
	h := New(&fake{}, Options{})
	f.Fuzz(func(t *testing.T, version, body string) {
		req := httptest.NewRequest("POST", "/containers/create", strings.NewReader(body))
		req.URL.Path = "/v" + version + "/containers/create"
		req.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		switch rec.Code {
		case http.StatusCreated, http.StatusBadRequest, http.StatusNotFound:
		default:
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
	})
}
