package plugin

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lade/internal/errdefs"
)

// TestFind: a socket goes before a file, a file of the operator before one of
// a package, and no name leads elsewhere.
func TestFind(t *testing.T) {
	sockets, own, packaged := t.TempDir(), t.TempDir(), t.TempDir()
	d := Dirs{Sockets: []string{sockets}, Specs: []string{own, packaged}}
	write := func(dir, name, text string) {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("unix", filepath.Join(sockets, "a.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	write(own, "a.spec", "tcp://127.0.0.1:1")
	write(own, "b.spec", "tcp://127.0.0.1:2\n")
	write(packaged, "b.spec", "tcp://127.0.0.1:3")
	write(packaged, "c/c.json", `{"Name":"c","Addr":"https://127.0.0.1:4","TLSConfig":{"InsecureSkipVerify":true}}`)
	write(own, "bad.json", `{`)
	write(own, "odd.spec", "ftp://x")
	write(own, "relative.spec", "unix://x.sock")
	write(sockets, "file.sock", "no socket")
	for name, want := range map[string]string{
		"a": "unix://" + sockets + "/a.sock", "b": "tcp://127.0.0.1:2", "c": "https://127.0.0.1:4",
	} {
		if at, err := d.Find(name); err != nil || at.Addr != want {
			t.Errorf("%s: %+v, %v", name, at, err)
		}
	}
	if got := strings.Join(d.Names(), " "); got != "a b c" {
		t.Errorf("names: %s", got)
	}
	for name, kind := range map[string]errdefs.Kind{
		"nobody": errdefs.NotFound, "file": errdefs.NotFound, "bad": errdefs.Invalid, "odd": errdefs.Invalid, "relative": errdefs.Invalid,
		"": errdefs.Invalid, "../a": errdefs.Invalid, ".": errdefs.Invalid, "..": errdefs.Invalid, ".a": errdefs.Invalid, "x/y": errdefs.Invalid,
	} {
		if at, err := d.Find(name); errdefs.KindOf(err) != kind {
			t.Errorf("%q: %+v, %v", name, at, err)
		}
	}
}

// TestTLS: a plugin behind TLS is asked only where its certificate is trusted.
func TestTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") != media || r.Method != http.MethodPost {
			http.Error(w, "that is not how plugins are asked", http.StatusBadRequest)
			return
		}
		if r.URL.Path == "/Plugin.Activate" {
			io.WriteString(w, `{"Implements":["VolumeDriver","authz"]}`)
			return
		}
		io.WriteString(w, strings.Repeat(" ", limit)+`{}`)
	}))
	defer s.Close()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		tls  *TLS
		want string
	}{
		"trusted":  {&TLS{CAFile: ca}, "its answer has more than"},
		"anyone":   {&TLS{InsecureSkipVerify: true}, "its answer has more than"},
		"stranger": {&TLS{}, "certificate"},
		"plain":    {nil, "400 Bad Request"},
		"no-ca":    {&TLS{CAFile: filepath.Join(dir, "none.pem")}, "no such file"},
		"no-key":   {&TLS{CertFile: ca, KeyFile: ca}, "private key"},
	} {
		b, err := json.Marshal(Address{Name: name, Addr: "tcp://" + s.Listener.Addr().String(), TLS: x.tls})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".json"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		p := New(name, "authz", Dirs{Specs: []string{dir}})
		var answer struct{}
		if err := p.Call(t.Context(), "AuthZPlugin.AuthZReq", nil, &answer); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v", name, err)
		}
		p.Close()
	}
}
