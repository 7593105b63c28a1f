package server

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"lade/internal/errdefs"
	"lade/test/swagger"
)

var update = flag.Bool("update", false, "write the table of endpoints in docs/compatibility.md")

// The table stands between these lines.
const (
	compatibility = "../../docs/compatibility.md"
	tableBegin    = "<!-- endpoints: go test ./internal/server -run TestEndpoints -update -->\n"
	tableEnd      = "<!-- end of endpoints -->\n"
)

// beyond are endpoints that Docker serves and the contract does not name.
var beyond = []string{
	"GET /containers/{id}/checkpoints", "POST /containers/{id}/checkpoints", "DELETE /containers/{id}/checkpoints/{checkpoint}",
	"POST /build/cancel", "POST /grpc",
}

// TestEndpoints: every operation of the newest contract is served, or says
// that it is not in a way that clients understand; and so is every operation
// of the older ones. The page for users says which.
func TestEndpoints(t *testing.T) {
	newest := swagger.Load(t, swagger.Newest)
	var table strings.Builder
	fmt.Fprintf(&table, "%s\nOf %d endpoints of API 1.%d; in all versions from 1.24 on.\n\n| endpoint | answer |\n|---|---|\n", tableBegin, len(newest.Operations())+len(beyond), swagger.Newest)
	row := func(method, path string) {
		fmt.Fprintf(&table, "| `%s %s` | %s |\n", method, path, served(t, "", method, path))
	}
	for _, o := range newest.Operations() {
		row(o.Method, o.Path)
	}
	for _, b := range beyond {
		method, path, _ := strings.Cut(b, " ")
		row(method, path)
	}
	table.WriteString("\n" + tableEnd)
	for _, minor := range []int{swagger.Oldest, 30, 40, 50} {
		for _, o := range swagger.Load(t, minor).Operations() {
			served(t, "/v1."+strconv.Itoa(minor), o.Method, o.Path)
		}
	}
	page, err := os.ReadFile(compatibility)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), tableBegin)
	_, after, ended := strings.Cut(rest, tableEnd)
	if !ok || !ended {
		t.Fatalf("%s has no place for the table", compatibility)
	}
	now := before + table.String() + after
	if *update {
		if err := os.WriteFile(compatibility, []byte(now), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if now != string(page) {
		t.Errorf("%s is not what is served: run the test with -update", compatibility)
	}
}

// served asks for an endpoint of an engine that has nothing and tells how it
// answers: by asking the engine, or without, and then how.
func served(t *testing.T, version, method, path string) string {
	t.Helper()
	name := regexp.MustCompile(`\{\w+\}`).ReplaceAllString(path, "x")
	f := &fake{err: errdefs.NotFoundf("asked")}
	rec := httptest.NewRecorder()
	r := httptest.NewRequest(method, version+name, strings.NewReader("{}"))
	r.Header.Set("Content-Type", "application/json")
	New(f, Options{}).ServeHTTP(rec, r)
	var m struct{ Message string }
	if err := json.Unmarshal(rec.Body.Bytes(), &m); err != nil && rec.Code >= 400 && method != http.MethodHead {
		t.Errorf("%s %s: %d %q", method, path, rec.Code, rec.Body)
	}
	switch {
	case m.Message == "page not found" || rec.Code == http.StatusMethodNotAllowed:
		t.Errorf("%s%s %s: no route", version, method, path)
	case strings.HasPrefix(m.Message, "internal error "): // the fake engine lacks the method that was called
	case rec.Code == http.StatusNotImplemented:
		return "501, not implemented"
	case rec.Code == http.StatusServiceUnavailable:
		return "503, as an engine outside a swarm"
	case strings.HasPrefix(m.Message, `plugin "x"`):
		return "404, there are no plugins"
	}
	return "served"
}
