package client

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/registry"
	moby "github.com/moby/moby/client"

	"lade/internal/errdefs"
)

func TestMain(m *testing.M) {
	switch os.Getenv("LADETEST_DAEMON") {
	case "answer":
		l, err := net.Listen("unix", os.Getenv("LADETEST_SOCKET"))
		if err != nil {
			os.Exit(2)
		}
		// One connection is what Start makes; nobody else is to come.
		if c, err := l.Accept(); err == nil {
			_ = c.Close()
		}
		os.Exit(0)
	case "fail":
		_, _ = os.Stderr.WriteString("no room on the disk\n")
		os.Exit(3)
	}
	os.Exit(m.Run())
}

func TestParseHost(t *testing.T) {
	for _, c := range []struct {
		host string
		tls  bool
		want string
	}{
		{"", false, "unix:///var/run/lade.sock"}, {"", true, "tcp://localhost:2376"}, {"unix://", false, "unix:///var/run/docker.sock"},
		{"unix:///x", false, "unix:///x"}, {"tcp://h", false, "tcp://h:2375"}, {"tcp://h", true, "tcp://h:2376"}, {"h:1", false, "tcp://h:1"},
		{"tcp://[::1]:5", false, "tcp://[::1]:5"}, {"tcp://[::1]", false, "tcp://[::1]:2375"}, {"tcp://h:1/p", false, "tcp://h:1/p"}, {"ssh://u@h", false, "ssh://u@h"},
	} {
		got, err := ParseHost(c.host, c.tls)
		if err != nil || got != c.want {
			t.Errorf("ParseHost(%q, %v) = %q, %v; want %q", c.host, c.tls, got, err, c.want)
		}
	}
	for _, bad := range []string{"ftp://x", "unix://a://b"} {
		if got, err := ParseHost(bad, false); err == nil {
			t.Errorf("ParseHost(%q) = %q", bad, got)
		}
	}
}

func TestChoice(t *testing.T) {
	dir := t.TempDir()
	if err := Contexts(dir).Put(&Context{Name: "far", Endpoints: map[string]ContextEndpoint{"docker": {Host: "tcp://far:1"}}}, nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		o      Options
		env    map[string]string
		config string
		host   string
		chosen bool
	}{
		{name: "nothing", host: "unix:///var/run/lade.sock"},
		{name: "flag", o: Options{Hosts: []string{"tcp://a:1"}}, env: map[string]string{"LADE_HOST": "tcp://b:1"}, host: "tcp://a:1", chosen: true},
		{name: "ours first", env: map[string]string{"LADE_HOST": "tcp://b:1", "DOCKER_HOST": "tcp://c:1"}, host: "tcp://b:1", chosen: true},
		{name: "docker host", env: map[string]string{"DOCKER_HOST": "tcp://c:1"}, config: "far", host: "tcp://c:1", chosen: true},
		{name: "our context over docker's host", env: map[string]string{"LADE_CONTEXT": "far", "DOCKER_HOST": "tcp://c:1"}, host: "tcp://far:1", chosen: true},
		{name: "context flag", o: Options{Context: "far"}, env: map[string]string{"LADE_HOST": "tcp://b:1"}, host: "tcp://far:1", chosen: true},
		{name: "current context", config: "far", host: "tcp://far:1", chosen: true},
		{name: "default context", env: map[string]string{"DOCKER_CONTEXT": "default"}, config: "far", host: "unix:///var/run/lade.sock"},
		{name: "tls", env: map[string]string{"DOCKER_TLS_VERIFY": "1", "DOCKER_HOST": "tcp://c"}, host: "tcp://c:2376", chosen: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := c.o
			o.ConfigDir = dir
			o.Getenv = func(k string) string { return c.env[k] }
			cfg, err := LoadConfig(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := cfg.SetCurrentContext(c.config); err != nil {
				t.Fatal(err)
			}
			e, err := o.Resolve(cfg)
			if err != nil || e.Host != c.host || e.Chosen != c.chosen {
				t.Errorf("%+v, %v", e, err)
			}
		})
	}
	o := Options{ConfigDir: dir, Hosts: []string{"a"}, Context: "far"}
	if _, err := o.Resolve(&Config{}); err == nil {
		t.Error("host and context together")
	}
	o = Options{ConfigDir: dir, Context: "nope", Getenv: func(string) string { return "" }}
	if _, err := o.Resolve(&Config{}); !errors.Is(err, errdefs.NotFound) {
		t.Errorf("a missing context: %v", err)
	}
}

func TestContexts(t *testing.T) {
	s := Contexts(t.TempDir())
	if all, err := s.List(); err != nil || len(all) != 0 {
		t.Fatal(all, err)
	}
	c := &Context{Name: "my.ctx", Metadata: map[string]any{"Description": "d", "Other": 1.0}, Endpoints: map[string]ContextEndpoint{"docker": {Host: "tcp://h:1", SkipTLSVerify: true}}}
	if err := s.Put(c, map[string][]byte{"ca.pem": []byte("x")}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Get("my.ctx")
	if err != nil || got.Description() != "d" || got.Metadata["Other"] != 1.0 || got.Endpoints["docker"] != c.Endpoints["docker"] {
		t.Errorf("%+v %v", got, err)
	}
	// The directory is the name's SHA-256, as Docker's client has it.
	if !strings.HasSuffix(s.MetaPath("desktop-linux"), "/contexts/meta/fe9c6bd7a66301f49ca9b6a70b217107cd1284598bfc254700c989b916da791e") {
		t.Error(s.MetaPath("desktop-linux"))
	}
	if _, err := s.Endpoint("my.ctx"); err == nil || !strings.Contains(err.Error(), "no certificate found") {
		t.Errorf("a bad certificate: %v", err)
	}
	for _, bad := range []string{"", "default", "../x", "a"} {
		if ValidContextName(bad) == nil {
			t.Errorf("%q is taken for a name", bad)
		}
	}
	if err := s.Remove("my.ctx"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("my.ctx"); !errors.Is(err, errdefs.NotFound) {
		t.Error(err)
	}
}

func TestAuth(t *testing.T) {
	dir := t.TempDir()
	file := `{"auths":{"https://index.docker.io/v1/":{"auth":"dXNlcjpwYTpzcw=="},"https://old.example.com/v1/":{"auth":"bzpw"}},"credHelpers":{"reg.example.com":"ladetest"},"psFormat":"x","unknown":{"kept":true},"proxies":{"default":{"httpProxy":"http://p"}}}`
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	script := "#!/bin/sh\ncase $1 in get) cat >/dev/null; echo '{\"ServerURL\":\"s\",\"Username\":\"<token>\",\"Secret\":\"tok\"}';; *) cat >>" + dir + "/said;; esac\n"
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-ladetest"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	c, err := LoadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	for server, want := range map[string]registry.AuthConfig{
		DefaultRegistry:   {Username: "user", Password: "pa:ss", ServerAddress: DefaultRegistry},
		"old.example.com": {Username: "o", Password: "p", ServerAddress: "old.example.com"},
		"reg.example.com": {IdentityToken: "tok", ServerAddress: "reg.example.com"},
		"none":            {},
	} {
		if a, err := c.Auth(server); err != nil || a != want {
			t.Errorf("%s: %+v %v", server, a, err)
		}
	}
	if p := c.Proxies("unix:///x"); p["HTTP_PROXY"] != "http://p" || p["http_proxy"] != "http://p" || len(p) != 2 {
		t.Error(p)
	}
	if plain, err := c.StoreAuth(registry.AuthConfig{Username: "a", Password: "b", ServerAddress: "new"}); err != nil || !plain {
		t.Error(plain, err)
	}
	if plain, err := c.StoreAuth(registry.AuthConfig{Username: "a", Password: "secret", ServerAddress: "reg.example.com"}); err != nil || plain {
		t.Error(plain, err)
	}
	if found, err := c.EraseAuth(DefaultRegistry); err != nil || !found {
		t.Error(found, err)
	}
	b, err := os.ReadFile(c.Path())
	if err != nil || !strings.Contains(string(b), `"kept": true`) || strings.Contains(string(b), "secret") || strings.Contains(string(b), "dXNlcj") {
		t.Errorf("%s %v", b, err)
	}
	if said, err := os.ReadFile(dir + "/said"); err != nil || !strings.Contains(string(said), "secret") {
		t.Errorf("the helper was told %q, %v", said, err)
	}
	if c, err = LoadConfig(dir); err != nil {
		t.Fatal(err)
	}
	if a, _ := c.Auth("new"); a.Username != "a" || a.Password != "b" {
		t.Error(a)
	}
}

func ping(t *testing.T, e *Endpoint, start func(context.Context) error) error {
	t.Helper()
	api, err := e.Open("", "test", start)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err = api.Ping(ctx, moby.PingOptions{})
	return errors.Join(err, api.Close())
}

func pong(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.50") }

func TestTLS(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(pong))
	t.Cleanup(srv.Close)
	host := "tcp://" + srv.Listener.Addr().String()
	open := func(o Options) error {
		o.ConfigDir, o.Hosts, o.Getenv = t.TempDir(), []string{host}, func(string) string { return "" }
		e, err := o.Resolve(&Config{})
		if err != nil {
			return err
		}
		return ping(t, e, nil)
	}
	if err := open(Options{TLS: true}); err != nil {
		t.Errorf("TLS without verification: %v", err)
	}
	if err := open(Options{TLSVerify: true}); err == nil {
		t.Error("a certificate of nobody's was believed")
	}
	if err := open(Options{}); err == nil {
		t.Error("plain HTTP to a TLS server")
	}
}

// TestSSH uses a program called ssh that runs what the far machine would run.
func TestSSH(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(pong))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	bin, dir := t.TempDir(), t.TempDir()
	addr := strings.Replace(srv.Listener.Addr().String(), ":", "/", 1)
	for name, text := range map[string]string{
		"ssh":  "#!/bin/bash\necho \"$@\" >" + dir + "/args\nwhile [ \"$1\" != -- ]; do shift; done; shift 2\neval \"$1\"\n",
		"lade": "#!/bin/bash\nexec 3<>/dev/tcp/" + addr + "\nexec 4<&0\ncat <&4 >&3 &\nexec cat <&3\n",
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	o := Options{ConfigDir: dir, Hosts: []string{"ssh://user@host.example:22"}}
	e, err := o.Resolve(&Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := ping(t, e, nil); err != nil {
		t.Error(err)
	}
	args, err := os.ReadFile(dir + "/args")
	if err != nil || !strings.Contains(string(args), "-l user -p 22 -- host.example") {
		t.Errorf("%s %v", args, err)
	}
	e.Host = "ssh://user:secret@host"
	if err := ping(t, e, nil); err == nil || !strings.Contains(err.Error(), "plain-text password") {
		t.Error(err)
	}
}

// TestStart starts this test again as a daemon.
func TestStart(t *testing.T) {
	dir := t.TempDir()
	sock, err := os.MkdirTemp("", "ladetest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(sock) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	d := Daemon{Path: self, Socket: filepath.Join(sock, "s"), Log: filepath.Join(dir, "log")}
	t.Setenv("LADETEST_SOCKET", d.Socket)
	t.Setenv("LADETEST_DAEMON", "answer")
	begin := time.Now()
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("answers after %s", time.Since(begin))
	_ = os.Remove(d.Socket)
	t.Setenv("LADETEST_DAEMON", "fail")
	err = d.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "no room on the disk") {
		t.Errorf("a daemon that ends: %v", err)
	}
	d.Path = "/nonexistent"
	if err := d.Start(t.Context()); err == nil {
		t.Error("started nothing")
	}
}

// TestFallback tries the default sockets, then starts once.
func TestFallback(t *testing.T) {
	if _, err := os.Stat(DockerSocket); err == nil {
		t.Skip("an engine may answer at " + DockerSocket)
	}
	dir, err := os.MkdirTemp("", "ladetest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	e := &Endpoint{Host: "unix://" + path}
	if err := ping(t, e, nil); err == nil || !strings.Contains(err.Error(), "Cannot connect to the Docker daemon at unix://"+path) {
		t.Error(err)
	}
	failing := func(context.Context) error { return errors.New("no daemon here") }
	if _, ok := errors.AsType[*StartError](ping(t, e, failing)); !ok {
		t.Error("the reason is lost")
	}
	n := 0
	start := func(context.Context) error {
		n++
		l, err := net.Listen("unix", path)
		if err != nil {
			return err
		}
		srv := httptest.NewUnstartedServer(http.HandlerFunc(pong))
		srv.Listener = l
		srv.Start()
		t.Cleanup(srv.Close)
		return nil
	}
	if err := ping(t, e, start); err != nil || n != 1 {
		t.Error(err, n)
	}
	e.Chosen = true
	_ = os.Remove(path)
	if err := ping(t, e, start); err == nil || n != 1 {
		t.Error("a chosen host was started:", err, n)
	}
}
