package server

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"lade/internal/engine"
	"lade/internal/errdefs"
)

// TestWebsocket talks with a container that has a terminal and with one that
// has not, by a unix socket and by TCP, with messages larger than any buffer.
func TestWebsocket(t *testing.T) {
	for _, x := range []struct {
		name, version string
		tty           bool
		kind          websocket.MessageType
	}{
		{"frames", "", false, websocket.MessageBinary},
		{"terminal", "/v1.40", true, websocket.MessageBinary},
		{"old", "/v1.27", false, websocket.MessageText},
	} {
		t.Run(x.name, func(t *testing.T) {
			e := &talker{tty: x.tty}
			defer e.done.Wait()
			path := unixServer(t, New(e, Options{}))
			dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", path)
			}
			c, _, err := websocket.Dial(t.Context(), "ws://localhost"+x.version+"/containers/x/attach/ws?stream=1&stdin=1&stdout=1", &websocket.DialOptions{
				HTTPClient: &http.Client{Transport: &http.Transport{DialContext: dial}},
				HTTPHeader: http.Header{"Origin": {"http://elsewhere.invalid"}}, // as docker-py's
			})
			if err != nil {
				t.Fatal(err)
			}
			defer c.CloseNow()
			c.SetReadLimit(-1)
			said := strings.Repeat("x", 300<<10)
			go func() { c.Write(t.Context(), websocket.MessageText, []byte(said)) }()
			var got strings.Builder
			for got.Len() < len("hello\n")+len(said) {
				kind, b, err := c.Read(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if kind != x.kind {
					t.Fatalf("a message of kind %v", kind)
				}
				got.Write(b)
			}
			if got.String() != "hello\n"+strings.ToUpper(said) {
				t.Errorf("%d bytes, which begin with %.20q", got.Len(), got.String())
			}
			c.Close(websocket.StatusNormalClosure, "") // the talker sees the end of its input
		})
	}
}

// finite is an engine whose containers say a line and end.
type finite struct{ fake }

func (*finite) ContainerAttach(_ context.Context, _ string, o engine.AttachOptions) error {
	c, err := o.Hijack(true)
	if err != nil {
		return err
	}
	defer c.File.Close()
	_, err = io.WriteString(c.File, "the end\n")
	return err
}

// TestWebsocketEnd: the client has all output before the socket closes, and
// learns that it was the end.
func TestWebsocketEnd(t *testing.T) {
	s := httptest.NewServer(New(&finite{}, Options{}))
	defer s.Close()
	c, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(s.URL, "http")+"/containers/x/attach/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if _, b, err := c.Read(t.Context()); err != nil || string(b) != "the end\n" {
		t.Errorf("%q, %v", b, err)
	}
	if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Error(err)
	}
}

// TestWebsocketRefused: what is no handshake gets an answer in JSON, a page of
// another host none of the container.
func TestWebsocketRefused(t *testing.T) {
	s := httptest.NewServer(New(&finite{}, Options{}))
	defer s.Close()
	missing := httptest.NewServer(New(&fake{err: errdefs.NotFoundf("No such container: x")}, Options{}))
	defer missing.Close()
	handshake := http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	foreign := handshake.Clone()
	foreign.Set("Origin", "http://evil.invalid")
	old := handshake.Clone()
	old.Set("Sec-Websocket-Version", "8")
	for _, x := range []struct {
		name, url string
		header    http.Header
		status    int
	}{
		{"no upgrade", s.URL, nil, http.StatusBadRequest},
		{"old protocol", s.URL, old, http.StatusBadRequest},
		{"another page", s.URL, foreign, http.StatusForbidden},
		{"no container", missing.URL, handshake, http.StatusNotFound},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, x.url+"/containers/x/attach/ws", nil)
		if err != nil {
			t.Fatal(err)
		}
		if x.header != nil {
			req.Header = x.header
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != x.status || !strings.HasPrefix(string(b), `{"message":"`) {
			t.Errorf("%s: %d %s", x.name, res.StatusCode, b)
		}
	}
}
