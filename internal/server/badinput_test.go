package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"lade/internal/engine"
	"lade/internal/engine/stats"
	"lade/internal/errdefs"
	"lade/internal/need"
)

// TestBadRequests sends what no client should, as bytes, and is answered with
// 4xx and a message each time, without the engine being asked.
func TestBadRequests(t *testing.T) {
	f := &fake{err: errdefs.Internalf("the engine was asked")}
	p := unixServer(t, New(f, Options{}))
	const post = "POST /containers/create HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
	body := func(s string) string { return post + "Content-Length: " + strconv.Itoa(len(s)) + "\r\n\r\n" + s }
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" }
	for _, x := range []struct {
		request string
		status  int
		says    string
	}{
		{body(`{`), 400, "invalid JSON: unexpected EOF"},
		{body(`nonsense`), 400, "invalid JSON: invalid character 'o' in literal null (expecting 'u')"},
		{body(`[]`), 400, "invalid JSON: json: cannot unmarshal array into Go value of type"},
		{body(`{"Image":1}`), 400, "invalid JSON: json: cannot unmarshal number into Go struct field"},
		{body(`{"HostConfig":{"Memory":"much"}}`), 400, "Memory of type int64"},
		{body(`{"HostConfig":{"Memory":1e40}}`), 400, "cannot unmarshal number 1e40"},
		{body(`{} {}`), 400, "unexpected content after JSON"},
		{body(`{}` + "\x00"), 400, "unexpected content after JSON"},
		{body(strings.Repeat(`[`, 100_000)), 400, "exceeded max depth"},
		{body(strings.Repeat(`{"HostConfig":`, 20_000)), 400, "exceeded max depth"},
		{post + "Content-Length: 100\r\n\r\n{}", 400, "invalid JSON: unexpected EOF"}, // the rest never comes
		{post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "invalid JSON"},
		{post + "Content-Length: -1\r\n\r\n", 400, ""},
		{strings.Replace(post, "application/json", "text/plain", 1) + "Content-Length: 2\r\n\r\n{}", 400, "unsupported Content-Type header (text/plain): must be 'application/json'"},
		{strings.Replace(post, "application/json", ";;", 1) + "Content-Length: 2\r\n\r\n{}", 400, "malformed Content-Type header (;;)"},
		{get("/v1.23/info"), 400, "client version 1.23 is too old"},
		{get("/v1.999/info"), 400, "client version 1.999 is too new"},
		{get("/v9/info"), 400, "client version 9 is too new"},
		{get("/v1.50.1/info"), 400, `invalid API version "1.50.1"`},
		{get("/v99999999999999999999.1/info"), 400, "invalid API version"},
		{get("/vx/info"), 404, "page not found"},
		{get("/containers/json?limit=many"), 400, "invalid syntax"},
		{get("/containers/json?all=%zz"), 400, `invalid URL escape "%zz"`},
		{get("/containers/json?a;b"), 400, "invalid semicolon separator in query"},
		{get("/containers/x/top?ps_args=%00"), 400, `invalid value for "ps_args": it has a NUL byte`},
		{get("/containers/json?filters=%7B"), 400, "invalid filter"},
		{get("/containers/json?filters=%7B%22a%22%3A1%7D"), 400, "invalid filter"},
		{"GET /info HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("x", 2<<20) + "\r\n\r\n", 431, ""},
		{"GET " + strings.Repeat("/x", 1<<20) + " HTTP/1.1\r\nHost: x\r\n\r\n", 431, ""},
		{"GET /info\r\n\r\n", 400, ""},
		{"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", 400, ""}, // TLS, by mistake
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, ""},
		{"BREW /info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, "page not found"},
	} {
		c, err := net.Dial("unix", p)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetDeadline(time.Now().Add(need.Patience(30 * time.Second))); err != nil {
			t.Fatal(err)
		}
		go func() { // the server may answer before it has read all
			io.WriteString(c, x.request)
			c.(*net.UnixConn).CloseWrite()
		}()
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Errorf("%.80q: %v", x.request, err)
			c.Close()
			continue
		}
		b, _ := io.ReadAll(res.Body) // may be cut off
		c.Close()
		if res.StatusCode != x.status || !strings.Contains(strings.ReplaceAll(string(b), `\"`, `"`), x.says) || x.says != "" && res.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%.120q: %d %s, want %d %s", x.request, res.StatusCode, b, x.status, x.says)
		}
	}
	if f.called != "" {
		t.Errorf("%s was called", f.called)
	}
}

// endless is a body that is a valid beginning for ever.
type endless struct{ sent int }

func (e *endless) Read(p []byte) (int, error) {
	const unit = `"x",`
	if e.sent == 0 {
		e.sent = copy(p, `{"Env":[`)
		return e.sent, nil
	}
	n := 0
	for n+len(unit) <= len(p) {
		n += copy(p[n:], unit)
	}
	e.sent += n
	return n, nil
}

// TestEndlessBody: a body that never ends is refused before it takes much.
func TestEndlessBody(t *testing.T) {
	s := httptest.NewServer(New(&fake{}, Options{}))
	defer s.Close()
	body := &endless{}
	res, err := http.Post(s.URL+"/containers/create", "application/json", body)
	if err == nil {
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != http.StatusBadRequest || !strings.Contains(string(b), "request body too large") {
			t.Errorf("%d %s", res.StatusCode, b)
		}
	} // else it was cut off while it sent
	if body.sent > jsonLimit+16<<20 {
		t.Errorf("%d bytes were taken", body.sent)
	}
}

// clock is an answer whose connection has deadlines.
type clock struct {
	http.ResponseWriter
	set []bool
}

func (c *clock) SetReadDeadline(t time.Time) error {
	c.set = append(c.set, !t.IsZero())
	return nil
}

// TestSlowBody: JSON has a deadline from its first byte to its end and not
// beyond, other bodies have none.
func TestSlowBody(t *testing.T) {
	for media, want := range map[string]string{"application/json": "[true false]", "application/json; charset=utf-8": "[true false]", "application/x-tar": "[]"} {
		r := httptest.NewRequest("POST", "/", strings.NewReader(`{}`))
		r.Header.Set("Content-Type", media)
		c := &clock{ResponseWriter: httptest.NewRecorder()}
		bounded(c, r)
		if len(c.set) != 0 {
			t.Error("a deadline before the body is read")
		}
		if _, err := io.ReadAll(r.Body); err != nil || fmt.Sprint(c.set) != want {
			t.Errorf("%s: %v %v", media, c.set, err)
		}
	}
}

// busy is an engine whose streams never end by themselves.
type busy struct{ fake }

func (*busy) Events(ctx context.Context, _ engine.EventsOptions) (engine.EventStream, error) {
	return func(yield func(events.Message, error) bool) {
		if yield(events.Message{Action: "start"}, nil) {
			<-ctx.Done()
		}
	}, nil
}

func (*busy) ContainerWait(context.Context, string, container.WaitCondition) (<-chan container.WaitResponse, error) {
	return make(chan container.WaitResponse), nil
}

func (*busy) ContainerStats(ctx context.Context, _ string, _ stats.Options) (iter.Seq2[*stats.Sample, error], error) {
	return func(yield func(*stats.Sample, error) bool) {
		if yield(&stats.Sample{}, nil) {
			<-ctx.Done()
			yield(nil, ctx.Err())
		}
	}, nil
}

// TestVanish: clients that go away in the midst of a stream, of a header and of
// a body leave no goroutine and no descriptor behind.
func TestVanish(t *testing.T) {
	s := httptest.NewServer(New(&busy{}, Options{}))
	defer s.Close()
	const clients = 50
	requests := []string{
		"GET /events HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /containers/x/wait HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /containers/x/stats HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /inf",
		"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"Ima",
	}
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	for range clients {
		var all []net.Conn
		for i, r := range requests {
			c, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, r); err != nil {
				t.Fatal(err)
			}
			if i < 3 { // it has begun to answer
				if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "200 OK") {
					t.Fatalf("%q %v", line, err)
				}
			}
			all = append(all, c)
		}
		for _, c := range all {
			c.Close()
		}
	}
	for end := time.Now().Add(need.Patience(30 * time.Second)); runtime.NumGoroutine() > goroutines || descriptors(t) > files; runtime.Gosched() {
		if time.Now().After(end) {
			b := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, were %d; %d descriptors, were %d\n%s", runtime.NumGoroutine(), goroutines, descriptors(t), files, b[:runtime.Stack(b, true)])
		}
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return len(all)
}
