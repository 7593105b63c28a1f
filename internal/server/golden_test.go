package server

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"

	"lade/internal/engine"
	"lade/internal/logs"
)

// exchange is a recorded request with its answer.
type exchange struct {
	Method    string
	URL       string
	ReqHeader map[string]string
	ReqBody   json.RawMessage
	Status    int
	Header    map[string]string
	Body      json.RawMessage
}

// own lists exchanges that the server must answer without asking the engine.
var own = []string{
	"/_ping", "/v1.99/", "/swarm", "/services", "/nodes", "/plugins", "filters=bad", "filters=%7B%22nope",
	"h=x", "limit=x", "since=bad", "nope/logs", "aa/logs", "aa/rename?", "aa/exec",
}

func TestGolden(t *testing.T) {
	n := 0
	err := filepath.WalkDir("testdata", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(p) != ".json" {
			return err
		}
		n++
		t.Run(strings.TrimSuffix(strings.TrimPrefix(p, "testdata/"), ".json"), func(t *testing.T) { replay(t, p) })
		return nil
	})
	if err != nil || n < 120 {
		t.Fatalf("%d exchanges: %v", n, err)
	}
}

func replay(t *testing.T, file string) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var x exchange
	if err := json.Unmarshal(b, &x); err != nil {
		t.Fatal(err)
	}
	f := &fake{}
	alone := x.URL == "/nope" || strings.HasSuffix(x.URL, "aa/rename")
	for _, part := range own {
		alone = alone || strings.Contains(x.URL, part) && !strings.Contains(x.URL, "name=p1")
	}
	message := struct{ Message string }{}
	if json.Unmarshal(x.Body, &message) != nil || x.Status < 300 {
		message.Message = ""
	}
	alone = alone || strings.HasPrefix(message.Message, "invalid JSON") || strings.HasPrefix(message.Message, "unsupported Content-Type")
	switch {
	case alone:
		f.err = errors.New("the engine was asked")
	case x.Status >= 300:
		f.err = errorOf(t, x.Status, message.Message)
	default:
		f.body = engineBody(t, x)
		f.logs = recordedLogs(x)
	}

	body := []byte(x.ReqBody)
	var text string
	if json.Unmarshal(body, &text) == nil { // recorded as it was: not JSON
		body = []byte(text)
	}
	req := httptest.NewRequest(x.Method, x.URL, bytes.NewReader(body))
	for k, v := range x.ReqHeader {
		req.Header.Set(k, v)
	}
	rec := httptest.NewRecorder()
	New(f, Options{Version: "29.7.2"}).ServeHTTP(rec, req)
	res := rec.Result()

	if res.StatusCode != x.Status {
		t.Errorf("status %d, want %d: %s", res.StatusCode, x.Status, rec.Body)
	}
	compareHeaders(t, res.Header, x)
	compareBody(t, rec.Body.Bytes(), x)
}

// engineBody turns a recorded body into what an engine says in the newest types.
func engineBody(t *testing.T, x exchange) []byte {
	t.Helper()
	if stat := x.Header["X-Docker-Container-Path-Stat"]; stat != "" {
		b, err := base64.StdEncoding.DecodeString(stat)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if strings.Contains(x.URL, "/system/df") {
		b, err := json.Marshal(system.DiskUsage{
			ImageUsage: &image.DiskUsage{}, ContainerUsage: &container.DiskUsage{}, VolumeUsage: &volume.DiskUsage{},
		})
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Replace(b, []byte("{"), []byte(`{"BuildCacheUsage":{},`), 1)
	}
	b := bytes.TrimSpace(x.Body)
	stream := strings.Contains(x.URL, "/images/create") || strings.Contains(x.URL, "/images/load") || strings.Contains(x.URL, "/events")
	if stream && len(b) == 0 {
		return []byte("[]")
	}
	if stream && b[0] != '[' {
		return append(append([]byte("["), b...), ']')
	}
	return b
}

// recordedLogs is what the containers of the recorded scenario had written.
func recordedLogs(x exchange) engine.LogStream {
	at := func(s string) time.Time {
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			panic(err)
		}
		return t
	}
	out := logs.Message{Stream: logs.Stdout, Time: at("2026-11-23T09:42:18.057982688Z"), Line: []byte("out\n")}
	failed := logs.Message{Stream: logs.Stderr, Time: at("2026-11-23T09:42:18.0580267Z"), Line: []byte("err\n")}
	partial := logs.Message{Stream: logs.Stdout, Time: at("2026-11-23T09:42:18.184725001Z"), Line: []byte("partial")}
	switch {
	case strings.Contains(x.URL, "/lt/"):
		out.Line = []byte("out\r\n")
		return engine.LogStream{Tty: true, Messages: messages(out)}
	case strings.Contains(x.URL, "tail=1"):
		return engine.LogStream{Messages: messages(partial)}
	case len(x.Body) == 0:
		return engine.LogStream{Messages: messages()}
	}
	return engine.LogStream{Messages: messages(out, failed, partial)}
}

func compareHeaders(t *testing.T, got http.Header, x exchange) {
	t.Helper()
	want := http.Header{}
	for k, v := range x.Header {
		want.Set(k, v)
	}
	got.Del("Content-Length")
	if got.Get("Api-Version") != "" {
		got.Set("Api-Version", "1.55") // the recorded engine's newest
	}
	if x.Method == http.MethodPut && x.Status == http.StatusOK { // the recorder adds it
		got.Del("Content-Type")
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("headers (-want +got):\n%s", d)
	}
}

func compareBody(t *testing.T, got []byte, x exchange) {
	t.Helper()
	var want any
	if len(x.Body) > 0 {
		if err := json.Unmarshal(x.Body, &want); err != nil {
			t.Fatal(err)
		}
	}
	if text, ok := want.(string); ok {
		if string(got) != text {
			t.Errorf("body %q, want %q", got, text)
		}
		return
	}
	var values []any
	d := json.NewDecoder(bytes.NewReader(got))
	for {
		var v any
		if err := d.Decode(&v); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("%v in %q", err, got)
		}
		values = append(values, v)
	}
	var have any
	_, list := want.([]any)
	switch {
	case len(values) == 1 && (!list || isList(values[0])):
		have = values[0]
	case len(values) > 0:
		have = values
	}
	if diff := cmp.Diff(expected(want, x), have); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
}

func isList(v any) bool {
	_, ok := v.([]any)
	return ok
}

// expected is the recorded body with the API versions that we speak.
func expected(want any, x exchange) any {
	m, ok := want.(map[string]any)
	switch {
	case ok && strings.HasSuffix(x.URL, "/version") && x.Status == http.StatusOK:
		m["ApiVersion"], m["MinAPIVersion"] = "1.56", "1.24"
		details := m["Components"].([]any)[0].(map[string]any)["Details"].(map[string]any)
		details["ApiVersion"], details["MinAPIVersion"] = "1.56", "1.24"
	case ok && strings.Contains(x.URL, "/v1.99/"):
		m["message"] = strings.Replace(m["message"].(string), "1.55", "1.56", 1)
	}
	return want
}
