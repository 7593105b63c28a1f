package e2e

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/coder/websocket"

	"lade/internal/need"
	"lade/test/harness"
)

// fakeSSH is ssh(1) to this very machine: it runs what comes behind the host's
// name, as a login there would.
const fakeSSH = `#!/bin/sh
while [ "$1" != -- ]; do shift; done
shift 2
export DOCKER_HOST=unix://$FAR_SOCKET LADE_HOST=unix://$FAR_SOCKET
exec sh -c "$*"
`

// TestSSH reaches an engine by ssh:// from both clients: what is typed and what
// is said goes through the far client's dial-stdio.
func TestSSH(t *testing.T) {
	need.Root(t)
	need.Program(t, "docker", "docker-cli")
	e := harness.Start(t)
	e.Run("pull", "-q", "lade/hello")
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "ssh"), []byte(fakeSSH), 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(path []string, stdin, client string, args ...string) string {
		t.Helper()
		c := exec.Command(client, args...)
		c.Env = append(os.Environ(), "PATH="+strings.Join(append([]string{bin}, path...), ":")+":"+os.Getenv("PATH"), "FAR_SOCKET="+e.Socket,
			"DOCKER_HOST=ssh://me@far.invalid:2222", "LADE_HOST=ssh://me@far.invalid:2222", "HOME="+bin)
		c.Stdin = strings.NewReader(stdin)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", client, args, err, out)
		}
		return string(out)
	}
	lade := filepath.Join(e.Bin, "lade")
	// The far end of the first has docker alone, of the second lade too.
	for _, x := range []struct {
		client string
		path   []string
	}{{"docker", nil}, {lade, []string{e.Bin}}, {lade, nil}} {
		if out := run(x.path, "said\n", x.client, "run", "--rm", "-i", "lade/hello", "cat"); out != "said\n" {
			t.Errorf("%s: %q", x.client, out)
		}
	}
	if out := run(nil, "", "docker", "version", "--format", "{{.Server.Os}}"); out != "linux\n" {
		t.Errorf("docker version: %q", out)
	}
}

// dialer connects with a unix socket, whatever the address.
func dialer(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
}

// TestWebsocketAttach types into a container by a websocket, with and without
// a terminal, and gets all that was logged before; the container's end is the
// socket's.
func TestWebsocketAttach(t *testing.T) {
	need.Root(t)
	e := harness.Start(t)
	for _, flags := range [][]string{{"-di"}, {"-dit"}} {
		id := strings.TrimSpace(e.Run(append(append([]string{"run"}, flags...), "lade/hello", "sh", "-c", "echo ready; read x; echo got $x")...))
		need.Eventually(t, "it runs", func() bool { return strings.Contains(e.Run("logs", id), "ready") })
		c, _, err := websocket.Dial(t.Context(), "ws://localhost/v1.50/containers/"+id+"/attach/ws?logs=1&stream=1&stdin=1&stdout=1&stderr=1", &websocket.DialOptions{HTTPClient: dialer(e.Socket)})
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseNow()
		if err := c.Write(t.Context(), websocket.MessageText, []byte("words\n")); err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for {
			_, b, err := c.Read(t.Context())
			if err != nil {
				if websocket.CloseStatus(err) != websocket.StatusNormalClosure {
					t.Errorf("%v: %v", flags, err)
				}
				break
			}
			got.Write(b)
		}
		if s := got.String(); !strings.HasPrefix(s, "ready") || !strings.Contains(s, "got words") || strings.Contains(s, "\x00") {
			t.Errorf("%v: %q", flags, s)
		}
	}
}

// TestGuards: a read-only socket and an authorization plugin, both with the
// unmodified client. The plugin comes by a reload, and goes away.
func TestGuards(t *testing.T) {
	need.Root(t)
	need.Program(t, "docker", "docker-cli")
	watch := filepath.Join(t.TempDir(), "watch.sock")
	e := harness.Start(t, "-H", "unix://"+watch+"?mode=ro&perm=0666")
	docker := func(socket string, args ...string) (string, error) {
		c := exec.Command("docker", args...)
		c.Env = append(os.Environ(), "DOCKER_HOST=unix://"+socket)
		out, err := c.CombinedOutput()
		return string(out), err
	}
	e.Run("run", "-d", "--name", "box", "lade/hello", "sh", "-c", "echo hello; exec sleep 1000")
	for _, x := range []struct {
		args string
		ok   bool
	}{
		{"ps", true}, {"inspect box", true}, {"info", true}, {"top box", true}, {"diff box", true},
		{"rm -f box", false}, {"exec box true", false}, {"attach box", false}, {"cp box:/etc/passwd -", false}, {"export box", false}, {"save lade/hello", false}, {"run lade/hello", false}, {"stop box", false},
	} {
		out, err := docker(watch, strings.Fields(x.args)...)
		if (err == nil) != x.ok || !x.ok && !strings.Contains(out, "this socket is read-only") && !strings.Contains(out, "received 403") {
			t.Errorf("docker %s: %v %.200s", x.args, err, out)
		}
	}

	name := "lade-test-" + strconv.Itoa(os.Getpid())
	var asked atomic.Int32
	stop := servePlugin(t, name, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/Plugin.Activate" {
			json.NewEncoder(w).Encode(map[string][]string{"Implements": {"authz"}})
			return
		}
		asked.Add(1)
		var q struct {
			RequestMethod, RequestURI string
			RequestBody               []byte
		}
		json.NewDecoder(r.Body).Decode(&q)
		privileged := strings.HasSuffix(q.RequestURI, "/containers/create") && strings.Contains(string(q.RequestBody), `"Privileged":true`)
		json.NewEncoder(w).Encode(map[string]any{"Allow": !privileged && q.RequestMethod != http.MethodDelete, "Msg": "not here"})
	}))
	reload := func(config, says string) {
		t.Helper()
		before := strings.Count(e.Log(), says)
		if err := os.WriteFile(filepath.Join(e.Dir, "daemon.json"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(e.Pid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		need.Eventually(t, "the log says "+says, func() bool { return strings.Count(e.Log(), says) > before })
	}
	reload(`{"authorization-plugins":["`+name+`"]}`, "configuration reloaded")
	denied := "authorization denied by plugin " + name + ": not here"
	for _, x := range []struct{ args, says string }{
		{"run --rm --privileged lade/hello true", denied},
		{"rm -f box", denied},
		{"ps -q", ""},
		{"exec box echo through", "through"},
		{"logs box", "hello"},
		{"run lade/hello echo ran", "ran"},
		{"info --format {{.Plugins.Authorization}}", "[" + name + "]"},
	} {
		out, err := docker(e.Socket, strings.Fields(x.args)...)
		if (err == nil) != (x.says != denied) || !strings.Contains(out, x.says) {
			t.Errorf("docker %s: %v %s", x.args, err, out)
		}
	}
	if asked.Load() < 20 {
		t.Errorf("the plugin was asked %d times", asked.Load())
	}
	stop()
	if out, err := docker(e.Socket, "ps"); err == nil || !strings.Contains(out, "plugin "+name+" failed with error") {
		t.Errorf("without the plugin: %v %s", err, out)
	}
	reload(`{}`, "configuration reloaded")
	if out, err := docker(e.Socket, "rm", "-f", "box"); err != nil {
		t.Errorf("rm without the plugin: %v %s", err, out)
	}
}
