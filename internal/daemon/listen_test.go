package daemon

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// TestDefaultSockets: Docker's socket is served only where no Docker lives,
// and only beside our own default one.
func TestDefaultSockets(t *testing.T) {
	dir := t.TempDir()
	own, docker := filepath.Join(dir, "lade.sock"), filepath.Join(dir, "docker.sock")
	addrs := func(c *Config) string {
		t.Helper()
		ls, err := listen(c, discard(), own, docker)
		if err != nil {
			t.Fatal(err)
		}
		defer closeAll(ls)
		var names []string
		for _, l := range ls {
			names = append(names, filepath.Base(l.Addr().String()))
		}
		return strings.Join(names, " ")
	}
	if got := addrs(&Config{}); got != "lade.sock docker.sock" {
		t.Error(got)
	}
	if got := addrs(&Config{API: API{Hosts: []string{"unix://" + dir + "/x.sock"}}}); got != "x.sock" {
		t.Error(got)
	}
	l, err := net.Listen("unix", docker)
	if err != nil {
		t.Fatal(err)
	}
	if got := addrs(&Config{}); got != "lade.sock" {
		t.Error(got)
	}
	// Killed: the socket is there and nobody answers.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if got := addrs(&Config{}); got != "lade.sock docker.sock" {
		t.Error(got)
	}
	if err := os.WriteFile(docker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := addrs(&Config{}); got != "lade.sock" {
		t.Error(got)
	}
}

// TestLeftSockets: a daemon was killed, and a child that it was about to start
// still has its sockets. The next one takes its place; one beside a daemon that
// lives does not.
func TestLeftSockets(t *testing.T) {
	first := launch(t)
	again := []string{"-H", "unix://" + first.socket}
	c := &Config{API: API{Hosts: []string{again[1]}}}
	if ls, err := listen(c, discard(), "", ""); errdefs.KindOf(err) != errdefs.Conflict {
		closeAll(ls)
		t.Errorf("beside one that lives: %v", err)
	}
	pidfd, err := unix.PidfdOpen(first.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	for n := range 64 {
		if link, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", first.Process.Pid, n)); !strings.HasPrefix(link, "socket:") {
			continue
		}
		fd, err := unix.PidfdGetfd(pidfd, n, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
	}
	first.Process.Kill()
	first.Wait()
	conn, err := net.Dial("unix", first.socket)
	if err != nil {
		t.Fatalf("the sockets are gone with the daemon: %v", err)
	}
	conn.Close()
	second := launch(t, again...)
	if got, err := second.getFrom(first.socket, "/hello"); err != nil || got != "hello" {
		t.Errorf("%q, %v\n%s", got, err, second.log)
	}
}

// authority makes certificates for a test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.issue("ca")
	return a
}

// issue writes NAME.pem and NAME-key.pem.
func (a *authority) issue(name string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{a.path(name): {Type: "CERTIFICATE", Bytes: der}, a.path(name + "-key"): {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	if a.cert == nil {
		if a.cert, err = x509.ParseCertificate(der); err != nil {
			a.t.Fatal(err)
		}
		a.key = key
	}
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name+".pem") }

// client trusts the authority and shows a certificate, if one is named.
func (a *authority) client(name string) *http.Client {
	a.t.Helper()
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AddCert(a.cert)
	if name != "" {
		cert, err := tls.LoadX509KeyPair(a.path(name), a.path(name+"-key"))
		if err != nil {
			a.t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
}

// TestServeTCP: TLS, client certificates, and web pages of other origins.
func TestServeTCP(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	ours.issue("server")
	ours.issue("client")
	theirs.issue("client")
	for _, verify := range []bool{false, true} {
		c := &Config{API: API{Hosts: []string{"tcp://127.0.0.1:0"}, TLS: true, TLSVerify: verify,
			TLSCACert: ours.path("ca"), TLSCert: ours.path("server"), TLSKey: ours.path("server-key")}}
		ls, err := Listen(c, discard())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		e, err := hello(ctx, c, discard())
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			done <- serve(ctx, e.Handler, ls, serveOptions{Logger: slog.New(slog.DiscardHandler), Shutdown: time.Second})
		}()
		url := "https://" + ls[0].Addr().String() + "/hello"
		if body, err := fetch(ours.client("client"), "GET", url, ""); err != nil || body != "hello" {
			t.Errorf("verify %v: %q %v", verify, body, err)
		}
		for _, stranger := range []*http.Client{ours.client(""), strangerOf(ours, theirs)} {
			if _, err := fetch(stranger, "GET", url, ""); (err != nil) != verify {
				t.Errorf("verify %v: a stranger: %v", verify, err)
			}
		}
		if body, err := fetch(ours.client("client"), "POST", url, "https://evil.example"); err != nil || !strings.Contains(body, "cross-origin") {
			t.Errorf("%q %v", body, err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// strangerOf trusts ours and shows a certificate of theirs.
func strangerOf(ours, theirs *authority) *http.Client {
	c := theirs.client("client")
	pool := x509.NewCertPool()
	pool.AddCert(ours.cert)
	c.Transport.(*http.Transport).TLSClientConfig.RootCAs = pool
	return c
}

func fetch(c *http.Client, method, url, origin string) (string, error) {
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		return "", err
	}
	if origin != "" {
		req.Header.Set("Origin", origin)
	}
	res, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}
