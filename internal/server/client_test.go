package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/engine"
	"lade/internal/errdefs"
	"lade/internal/logs"
	"lade/internal/need"
	"lade/internal/server/stream"
)

// talker is an engine whose containers and execs echo what they are sent.
type talker struct {
	fake
	tty  bool
	done sync.WaitGroup
}

// echo speaks on a connection that it took over: a greeting, the input in
// capitals on standard output, and at the end of input a farewell on standard
// error. It returns the early bytes as input too.
func (e *talker) echo(h engine.Hijack) error {
	c, err := h(e.tty)
	if err != nil {
		return err
	}
	e.done.Go(func() {
		defer c.File.Close()
		say := func(s logs.Stream, p []byte) {
			if !e.tty {
				c.File.Write(stream.Frame(nil, s, len(p)))
			}
			c.File.Write(p)
		}
		say(logs.Stdout, []byte("hello\n"))
		in := io.MultiReader(bytes.NewReader(c.Early), c.File)
		b := make([]byte, 1024)
		for {
			n, err := in.Read(b)
			if n > 0 {
				say(logs.Stdout, bytes.ToUpper(b[:n]))
			}
			if err != nil {
				break
			}
		}
		say(logs.Stderr, []byte("bye\n"))
	})
	return nil
}

func (e *talker) ContainerAttach(_ context.Context, _ string, o engine.AttachOptions) error {
	return e.echo(o.Hijack)
}

func (e *talker) ExecStart(ctx context.Context, id string, o engine.ExecStartOptions) error {
	if id == "paused" {
		return errdefs.Conflictf("Container x is paused, unpause the container before exec")
	}
	if o.Detach {
		return e.none(ctx, "ExecStart")
	}
	if id == "nosuch" {
		c, err := o.Hijack(e.tty)
		if err != nil {
			return err
		}
		return errors.Join(errdefs.Invalidf("OCI runtime exec failed: no such file"), c.File.Close())
	}
	return e.echo(o.Hijack)
}

// unixServer serves h on a socket and returns its path.
func unixServer(t *testing.T, h http.Handler) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "s.sock")
	need.ServeHTTP(t, p, h)
	return p
}

func connect(t *testing.T, host string, more ...client.Opt) *client.Client {
	t.Helper()
	c, err := client.New(append([]client.Opt{client.WithHost(host)}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestAttach(t *testing.T) {
	for _, kind := range []string{"unix", "tcp", "tls"} {
		for _, tty := range []bool{false, true} {
			name := kind
			if tty {
				name += "-tty"
			}
			t.Run(name, func(t *testing.T) {
				e := &talker{tty: tty}
				defer e.done.Wait()
				h := New(e, Options{Version: "test"})
				var c *client.Client
				switch kind {
				case "unix":
					c = connect(t, "unix://"+unixServer(t, h))
				case "tcp":
					s := httptest.NewServer(h)
					t.Cleanup(s.Close)
					c = connect(t, "tcp://"+s.Listener.Addr().String())
				case "tls":
					s := httptest.NewTLSServer(h)
					t.Cleanup(s.Close)
					addr := s.Listener.Addr().String()
					trust := s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
					trust.ServerName, trust.NextProtos = "example.com", nil
					c = connect(t, "tcp://"+addr, client.WithHTTPClient(&http.Client{Transport: &http.Transport{TLSClientConfig: trust}}),
						client.WithDialContext(func(ctx context.Context, _, _ string) (net.Conn, error) {
							d := tls.Dialer{Config: trust}
							return d.DialContext(ctx, "tcp", addr)
						}), client.WithScheme("http"))
				}
				res, err := c.ContainerAttach(t.Context(), "x", client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
				if err != nil {
					t.Fatal(err)
				}
				converse(t, res.HijackedResponse, tty)
			})
		}
	}
}

// converse speaks with a talker and closes the connection.
func converse(t *testing.T, c client.HijackedResponse, tty bool) {
	t.Helper()
	defer c.Close()
	media, ok := c.MediaType()
	if want := map[bool]string{true: types.MediaTypeRawStream, false: types.MediaTypeMultiplexedStream}[tty]; !ok || media != want {
		t.Errorf("media type %q, want %q", media, want)
	}
	if _, err := c.Conn.Write([]byte("input\n")); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	var err error
	if tty {
		_, err = io.Copy(&stdout, c.Reader)
	} else {
		_, err = stdcopy.StdCopy(&stdout, &stderr, c.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	wantOut, wantErr := "hello\nINPUT\n", "bye\n"
	if tty {
		wantOut, wantErr = wantOut+wantErr, ""
	}
	if stdout.String() != wantOut || stderr.String() != wantErr {
		t.Errorf("stdout %q, stderr %q", &stdout, &stderr)
	}
}

func TestExec(t *testing.T) {
	e := &talker{}
	defer e.done.Wait()
	c := connect(t, "unix://"+unixServer(t, New(e, Options{Version: "test"})))
	e.body = []byte(`{"Id":"e1"}`)
	created, err := c.ExecCreate(t.Context(), "x", client.ExecCreateOptions{Cmd: []string{"sh"}})
	if err != nil || created.ID != "e1" {
		t.Fatal(created, err)
	}
	res, err := c.ExecAttach(t.Context(), "e1", client.ExecAttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	converse(t, res.HijackedResponse, false)
	// What goes wrong later is said in the stream.
	if res, err = c.ExecAttach(t.Context(), "nosuch", client.ExecAttachOptions{}); err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	var stdout bytes.Buffer
	if _, err := stdcopy.StdCopy(&stdout, io.Discard, res.Reader); err != nil || stdout.String() != "OCI runtime exec failed: no such file\r\n" {
		t.Errorf("%q %v", &stdout, err)
	}
	if _, err := c.ExecStart(t.Context(), "e1", client.ExecStartOptions{Detach: true}); err != nil || e.called != "ExecStart" {
		t.Error(e.called, err)
	}
}

// TestHijackPlain sends what older clients and curl send: no upgrade, and
// input in the same packet as the request.
func TestHijackPlain(t *testing.T) {
	e := &talker{}
	defer e.done.Wait()
	conn, err := net.Dial("unix", unixServer(t, New(e, Options{Version: "test"})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "POST /v1.30/exec/e1/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n{} \nearly")
	conn.(*net.UnixConn).CloseWrite()
	b, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ := strings.Cut(string(b), "\r\n\r\n")
	if !strings.HasPrefix(head, "HTTP/1.1 200 OK\r\n") || !strings.Contains(head, "Content-Type: application/vnd.docker.raw-stream") || strings.Contains(head, "Content-Length") {
		t.Errorf("header %q", head)
	}
	if want := "\x01\x00\x00\x00\x00\x00\x00\x06hello\n\x01\x00\x00\x00\x00\x00\x00\x05EARLY\x02\x00\x00\x00\x00\x00\x00\x04bye\n"; body != want {
		t.Errorf("body %q, want %q", body, want)
	}
}

// TestHijackRefused: an error before the connection is taken over is an
// ordinary answer.
func TestHijackRefused(t *testing.T) {
	s := httptest.NewServer(New(&talker{}, Options{}))
	defer s.Close()
	req, err := http.NewRequest("POST", s.URL+"/exec/paused/start", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "Connection": {"Upgrade"}, "Upgrade": {"tcp"}}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusConflict || string(b) != `{"message":"Container x is paused, unpause the container before exec"}`+"\n" {
		t.Errorf("%d %q %v", res.StatusCode, b, err)
	}
}

// TestLogsFollow: each line arrives while the container goes on, and the end
// of the client's interest ends the engine's work.
func TestLogsFollow(t *testing.T) {
	lines, ended := make(chan string), make(chan struct{})
	var ctx context.Context
	f := &fake{}
	f.logs.Messages = func(yield func(logs.Message, error) bool) {
		defer close(ended)
		for {
			select {
			case l := <-lines:
				if !yield(logs.Message{Stream: logs.Stdout, Time: time.Unix(0, 0), Line: []byte(l)}, nil) {
					return
				}
			case <-f.ctx.Done():
				return
			}
		}
	}
	c := connect(t, "unix://"+unixServer(t, New(f, Options{})))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	res, err := c.ContainerLogs(ctx, "x", client.ContainerLogsOptions{ShowStdout: true, Follow: true, Timestamps: true, Details: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []string{"one\n", "two\n"} {
		lines <- l
		want := "\x01\x00\x00\x00\x00\x00\x00\x241970-01-01T00:00:00.000000000Z  " + l
		b := make([]byte, len(want))
		if _, err := io.ReadFull(res, b); err != nil || string(b) != want {
			t.Fatalf("%q %v", b, err)
		}
	}
	cancel()
	<-ended
}

func TestLogsError(t *testing.T) {
	f := &fake{}
	f.logs.Messages = func(yield func(logs.Message, error) bool) { yield(logs.Message{}, errors.New("disk on fire")) }
	rec := httptest.NewRecorder()
	New(f, Options{}).ServeHTTP(rec, httptest.NewRequest("GET", "/containers/x/logs?stdout=1", nil))
	if got := rec.Body.String(); !strings.HasSuffix(got, "Error grabbing logs: disk on fire\n") || got[0] != 2 {
		t.Errorf("%q", got)
	}
}

func TestAttributes(t *testing.T) {
	if got := attributes(map[string]string{"b": "x y", "a": "1,2"}); got != "a=1%2C2,b=x+y" {
		t.Error(got)
	}
}

func TestEvents(t *testing.T) {
	list := []events.Message{
		{Type: "container", Action: "start", Actor: events.Actor{ID: "c1", Attributes: map[string]string{"image": "busybox"}}, Scope: "local", Time: 1, TimeNano: 1000000001},
		{Type: "network", Action: "connect", Actor: events.Actor{ID: "n1"}},
	}
	b, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	h := New(&fake{body: b}, Options{})
	c := connect(t, "unix://"+unixServer(t, h))
	got := c.Events(t.Context(), client.EventsListOptions{})
	for i := range list {
		select {
		case m := <-got.Messages:
			if m.Actor.ID != list[i].Actor.ID || m.Action != list[i].Action {
				t.Errorf("%d: %+v", i, m)
			}
		case err := <-got.Err:
			t.Fatal(err)
		}
	}
	for _, x := range []struct{ path, accept, media, body string }{
		{"/v1.51/events", "", "application/json", `{"status":"start","id":"c1","from":"busybox","Type":"container",`},
		{"/v1.52/events", "application/json-seq", "application/json-seq", "\x1e" + `{"Type":"container",`},
		{"/v1.52/events", "application/jsonl, application/x-ndjson;q=0.9", "application/x-ndjson", `{"Type":"container",`},
		{"/events", "*/*", "application/jsonl", `{"Type":"container",`},
	} {
		req := httptest.NewRequest("GET", x.path, nil)
		req.Header.Set("Accept", x.accept)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		if rec.Header().Get("Content-Type") != x.media || !strings.HasPrefix(rec.Body.String(), x.body) {
			t.Errorf("%s %s: %s %q", x.path, x.accept, rec.Header().Get("Content-Type"), rec.Body)
		}
	}
}

func TestPull(t *testing.T) {
	f := &fake{body: []byte(`[{"status":"Pulling","id":"a","progressDetail":{"current":1,"total":2}},{"errorDetail":{"message":"boom <x>"}}]`)}
	c := connect(t, "unix://"+unixServer(t, New(f, Options{})))
	res, err := c.ImagePull(t.Context(), "reg.example:5000/a/b:1.0", client.ImagePullOptions{RegistryAuth: "eyJ1c2VybmFtZSI6InUiLCJwYXNzd29yZCI6InAifQ=="})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"status":"Pulling","progressDetail":{"current":1,"total":2},"id":"a"}` + "\n" + `{"errorDetail":{"message":"boom <x>"},"error":"boom <x>"}` + "\n"
	if string(b) != want {
		t.Errorf("%s", b)
	}
	if f.pull.Reference != "reg.example:5000/a/b:1.0" || f.pull.All || *f.pull.Auth != (registry.AuthConfig{Username: "u", Password: "p"}) {
		t.Errorf("%+v", f.pull)
	}
	// Before the first message an error is the answer's status.
	f.err = errdefs.NotFoundf("manifest unknown")
	if _, err := c.ImagePull(t.Context(), "a", client.ImagePullOptions{}); err == nil || !strings.Contains(err.Error(), "manifest unknown") {
		t.Error(err)
	}
}

func TestPush(t *testing.T) {
	f := &fake{body: []byte(`[{"status":"Pushed","id":"a"}]`)}
	c := connect(t, "unix://"+unixServer(t, New(f, Options{})))
	push := func(name string, o client.ImagePushOptions) string {
		t.Helper()
		o.RegistryAuth = "eyJ1c2VybmFtZSI6InUiLCJwYXNzd29yZCI6InAifQ=="
		res, err := c.ImagePush(t.Context(), name, o)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := push("reg.example:5000/a/b:1.0", client.ImagePushOptions{Platform: &ocispec.Platform{OS: "linux", Architecture: "arm64"}}); got != `{"status":"Pushed","id":"a"}`+"\n" {
		t.Error(got)
	}
	if f.push.Reference != "reg.example:5000/a/b:1.0" || f.push.All || *f.push.Auth != (registry.AuthConfig{Username: "u", Password: "p"}) || f.push.Platform.Architecture != "arm64" {
		t.Errorf("%+v", f.push)
	}
	push("a/b", client.ImagePushOptions{All: true})
	if f.push.Reference != "a/b" && f.push.Reference != "docker.io/a/b" || !f.push.All {
		t.Errorf("%+v", f.push)
	}
	// Credentials that a registry refuses must not make a client ask for others.
	f.err = errdefs.Unauthorizedf("no basic auth credentials")
	if got := push("a/b:c", client.ImagePushOptions{}); got != `{"errorDetail":{"message":"no basic auth credentials"},"error":"no basic auth credentials"}`+"\n" {
		t.Error(got)
	}
}

func TestReferences(t *testing.T) {
	for _, x := range []struct {
		name, tag, want string
		one             bool
	}{
		{"a", "", "a", false}, {"a", "b", "a:b", true}, {"a:1", "b", "a:b", true}, {"h:5000/a", "", "h:5000/a", false},
		{"h:5000/a", "b", "h:5000/a:b", true}, {"a", "sha256:00", "a@sha256:00", true}, {"a@sha256:00", "b", "a@sha256:00", true},
	} {
		got := withTag(x.name, x.tag)
		if got != x.want || tagged(got) != x.one {
			t.Errorf("withTag(%q, %q) = %q, one: %v", x.name, x.tag, got, tagged(got))
		}
	}
}

// TestLoadQuiet: the classic client's quiet load hears of results only.
func TestLoadQuiet(t *testing.T) {
	f := &fake{body: []byte(`[{"status":"Loading layer","id":"a","progressDetail":{}},{"stream":"Loaded image: x\n"}]`)}
	rec := httptest.NewRecorder()
	New(f, Options{}).ServeHTTP(rec, httptest.NewRequest("POST", "/images/load?quiet=1", strings.NewReader("tar")))
	if rec.Body.String() != `{"stream":"Loaded image: x\n"}`+"\n" || string(f.load) != "tar" {
		t.Errorf("%s %s", rec.Body, f.load)
	}
}

func TestCopy(t *testing.T) {
	stat := container.PathStat{Name: "f", Size: 7, Mode: 0o644, Mtime: time.Unix(1, 0).UTC()}
	b, err := json.Marshal(stat)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{body: b}
	c := connect(t, "unix://"+unixServer(t, New(f, Options{})))
	res, err := c.CopyFromContainer(t.Context(), "x", client.CopyFromContainerOptions{SourcePath: "/f"})
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(res.Content)
	if err != nil || len(content) != 1024 || res.Stat != stat {
		t.Errorf("%d bytes, %+v, %v", len(content), res.Stat, err)
	}
	if _, err := c.CopyToContainer(t.Context(), "x", client.CopyToContainerOptions{DestinationPath: "/", Content: strings.NewReader("tar")}); err != nil || string(f.load) != "tar" {
		t.Errorf("%q %v", f.load, err)
	}
}

// TestExportCut: a failure in the middle must not look like a whole tar.
func TestExportCut(t *testing.T) {
	f := &cut{}
	c := connect(t, "unix://"+unixServer(t, New(f, Options{})))
	res, err := c.ContainerExport(t.Context(), "x", client.ContainerExportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(res); err == nil {
		t.Errorf("%d bytes and no error", len(b))
	}
}

type cut struct{ fake }

func (*cut) ContainerExport(_ context.Context, _ string, w io.Writer) error {
	if _, err := w.Write(make([]byte, 64<<10)); err != nil {
		return err
	}
	return errors.New("read error")
}

// TestWait: the header comes as soon as waiting has begun.
func TestWait(t *testing.T) {
	w := &waiter{c: make(chan container.WaitResponse)}
	s := httptest.NewServer(New(w, Options{}))
	defer s.Close()
	res, err := http.Post(s.URL+"/v1.50/containers/x/wait?condition=next-exit", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	w.c <- container.WaitResponse{StatusCode: 3}
	b, err := io.ReadAll(res.Body)
	if err != nil || string(b) != `{"StatusCode":3}`+"\n" || w.until != container.WaitConditionNextExit {
		t.Errorf("%s %s %v", b, w.until, err)
	}
	bad, err := http.Post(s.URL+"/containers/x/wait?condition=later", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Body.Close()
	if bad.StatusCode != http.StatusBadRequest {
		t.Error(bad.Status)
	}
}

type waiter struct {
	fake
	c chan container.WaitResponse
}

func (w *waiter) ContainerWait(_ context.Context, _ string, until container.WaitCondition) (<-chan container.WaitResponse, error) {
	w.until = until
	return w.c, nil
}

// TestLasting: what changes state is not told that its client left.
func TestLasting(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, x := range []struct {
		method, path, body string
		lasts              bool
	}{
		{"POST", "/containers/create", `{"Image":"x"}`, true},
		{"POST", "/containers/x/start", "", true},
		{"DELETE", "/containers/x", "", true},
		{"POST", "/volumes/create", "{}", true},
		{"GET", "/containers/x/json", "", false},
		{"POST", "/images/create?fromImage=x", "", false},
	} {
		f := &fake{body: []byte("[]")}
		if strings.HasPrefix(x.path, "/containers") || strings.HasPrefix(x.path, "/volumes") {
			f.body = []byte("{}")
		}
		req := httptest.NewRequestWithContext(ctx, x.method, x.path, strings.NewReader(x.body))
		req.Header.Set("Content-Type", "application/json")
		func() {
			defer func() {
				if p := recover(); p != nil && p != http.ErrAbortHandler {
					panic(p)
				}
			}()
			New(f, Options{}).ServeHTTP(httptest.NewRecorder(), req)
		}()
		if f.ctx == nil || (f.ctx.Err() == nil) != x.lasts {
			t.Errorf("%s %s: lasts %v", x.method, x.path, !x.lasts)
		}
	}
}

// broken is an engine that fails in a way that nobody has thought of.
type broken struct{ fake }

func (*broken) ContainerStart(context.Context, string) error { panic("nobody has thought of it") }

func TestPanic(t *testing.T) {
	rec := httptest.NewRecorder()
	New(&broken{}, Options{}).ServeHTTP(rec, httptest.NewRequest("POST", "/containers/x/start", nil))
	if rec.Code != http.StatusInternalServerError || !strings.Contains(rec.Body.String(), "internal error ") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

func TestMain(m *testing.M) {
	os.Unsetenv("DOCKER_HOST")
	os.Unsetenv("DOCKER_API_VERSION")
	os.Exit(m.Run())
}
