package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/need"
	"lade/test/harness"
)

// web is a container that serves its own name on port 80.
func web(e *harness.Engine, name string, flags ...string) {
	args := append([]string{"run", "-d", "--name", name}, flags...)
	e.Run(append(args, "lade/hello", "sh", "-c", "mkdir -p /w; echo this is "+name+" > /w/index.html; exec httpd -p 80 -h /w")...)
}

// served fetches from an address until something answers.
func served(t *testing.T, address string) string {
	t.Helper()
	client := &http.Client{Timeout: need.Patience(30 * time.Second), Transport: &http.Transport{DisableKeepAlives: true}}
	for end := time.Now().Add(need.Patience(30 * time.Second)); ; time.Sleep(20 * time.Millisecond) {
		resp, err := client.Get("http://" + address + "/")
		if err == nil {
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(string(body))
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// TestTwoEngines: engines with their own roots and bridges do not touch each
// other's containers, ports, names and networks, also when one ends.
func TestTwoEngines(t *testing.T) {
	need.Root(t)
	a, b := harness.Start(t), harness.Start(t)
	web(a, "same", "-p", "127.0.0.1::80")
	web(b, "same", "-p", "127.0.0.1::80")
	at, bt := a.Run("port", "same", "80"), b.Run("port", "same", "80")
	if at == bt {
		t.Fatalf("both engines publish %s", at)
	}
	for _, address := range []string{at, bt} {
		if got := served(t, address); got != "this is same" {
			t.Errorf("%s: %q", address, got)
		}
	}
	if x, y := a.Run("ps", "-q"), b.Run("ps", "-q"); x == y || strings.Contains(x, "\n") || strings.Contains(y, "\n") {
		t.Errorf("containers: %q and %q", x, y)
	}
	subnet := func(e *harness.Engine) string {
		return e.Run("network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}}{{end}}", "bridge")
	}
	if x, y := subnet(a), subnet(b); x == y || x == "" {
		t.Errorf("networks %s and %s", x, y)
	}
	_, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	if out, stderr, code := b.Try("run", "--rm", "-p", "127.0.0.1:"+port+":80", "lade/hello", "true"); code != 125 || !strings.Contains(stderr, "address already in use") && !strings.Contains(stderr, "port is already allocated") {
		t.Errorf("the port of the other engine: exit code %d: %s%s", code, out, stderr)
	}
	a.Run("system", "prune", "-af", "--volumes")
	a.Run("rm", "-f", "same")
	a.Stop()
	if got := served(t, bt); got != "this is same" {
		t.Errorf("after the other engine stopped: %q", got)
	}
	b.Run("exec", "same", "true")
	a.Launch()
	if got := served(t, bt); got != "this is same" {
		t.Errorf("after the other engine started: %q", got)
	}
	a.Run("run", "--rm", "lade/hello", "true")
	b.Run("run", "--rm", "lade/hello", "true")
	b.Run("rm", "-f", "same")
}

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	last int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	c := &authority{t: t, dir: t.TempDir()}
	c.cert, c.key = c.sign("ca", nil)
	return c
}

// sign writes NAME.pem and NAME-key.pem.
func (c *authority) sign(name string, usage []x509.ExtKeyUsage) (*x509.Certificate, *ecdsa.PrivateKey) {
	c.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	c.last++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(c.last), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: usage, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true,
	}
	parent, signer := c.cert, c.key
	if parent == nil {
		template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		c.t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		c.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + "-key.pem": {Type: "EC PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(c.dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		c.t.Fatal(err)
	}
	return cert, key
}

// TestTLS: over TCP only clients with a certificate of the authority are
// served, by both clients' flags and environment.
func TestTLS(t *testing.T) {
	need.Root(t)
	ours, others := newAuthority(t), newAuthority(t)
	ours.sign("server", []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth})
	ours.sign("client", []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth})
	others.sign("client", []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth})
	file := func(c *authority, name string) string { return filepath.Join(c.dir, name+".pem") }
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	e := harness.Start(t, "-H", "tcp://"+address, "--tlsverify", "--tlscacert", file(ours, "ca"), "--tlscert", file(ours, "server"), "--tlskey", file(ours, "server-key"))
	for _, client := range []string{"lade", "docker"} {
		t.Run(client, func(t *testing.T) {
			run := func(args ...string) (string, int) {
				cmd := e.Command(client, append([]string{"-H", "tcp://" + address}, args...)...)
				out, err := cmd.CombinedOutput()
				return string(out), exitCode(err)
			}
			with := func(c *authority, args ...string) (string, int) {
				return run(append([]string{"--tlsverify", "--tlscacert", file(ours, "ca"), "--tlscert", file(c, "client"), "--tlskey", file(c, "client-key")}, args...)...)
			}
			if out, code := with(ours, "run", "--rm", "-i", "lade/hello", "echo", "over TLS"); code != 0 || !strings.Contains(out, "over TLS") {
				t.Errorf("exit code %d: %s", code, out)
			}
			if out, code := with(others, "ps"); code != 1 {
				t.Errorf("a certificate of another authority: exit code %d: %s", code, out)
			}
			if out, code := run("ps"); code != 1 {
				t.Errorf("without TLS: exit code %d: %s", code, out)
			}
			if out, code := run("--tls", "ps"); code != 1 {
				t.Errorf("without a certificate: exit code %d: %s", code, out)
			}
		})
	}
}

// inside runs f in a network namespace, in a thread that ends with it.
func inside(t *testing.T, space string, f func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		ns, err := os.Open("/run/netns/" + space)
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// get fetches from an address with a connection of the calling thread.
func get(address string) (string, error) {
	c, err := net.DialTimeout("tcp", address, need.Patience(30*time.Second))
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(need.Patience(30 * time.Second))); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(c)
	_, body, _ := strings.Cut(string(answer), "\r\n\r\n")
	return strings.TrimSpace(body), err
}

// TestReachable: published ports are reachable from another host: a network
// namespace with a link to this one.
func TestReachable(t *testing.T) {
	need.Root(t)
	ip := need.Program(t, "ip", "Debian's iproute2")
	e := harness.Start(t)
	n := strconv.Itoa(os.Getpid() % 100000)
	space, here, there := "ladetest-"+n, "ltr"+n+"h", "ltr"+n+"t"
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(ip, args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	run("netns", "add", space)
	t.Cleanup(func() {
		if out, err := exec.Command(ip, "netns", "delete", space).CombinedOutput(); err != nil {
			t.Errorf("ip netns delete: %v\n%s", err, out)
		}
	})
	run("link", "add", here, "type", "veth", "peer", "name", there, "netns", space)
	run("address", "add", "198.51.100.1/24", "dev", here)
	run("link", "set", here, "up")
	run("-n", space, "address", "add", "198.51.100.2/24", "dev", there)
	run("-n", space, "link", "set", there, "up")
	run("-n", space, "route", "add", "default", "via", "198.51.100.1")
	port, local := strconv.Itoa(31000+os.Getpid()%1000), strconv.Itoa(32000+os.Getpid()%1000)
	web(e, "web", "-p", port+":80", "-p", "127.0.0.1:"+local+":80")
	served(t, "127.0.0.1:"+port)
	from := func(address string) (got string, err error) {
		inside(t, space, func() { got, err = get(address) })
		return got, err
	}
	if got, err := from("198.51.100.1:" + port); err != nil || got != "this is web" {
		t.Errorf("from another host: %q, %v", got, err)
	}
	if got, err := from("198.51.100.1:" + local); err == nil {
		t.Errorf("a port published on loopback answers another host: %q", got)
	}
	// What a container asks of another host comes from this one's address.
	address := e.Run("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "web")
	if got, err := from(address + ":80"); err == nil {
		t.Errorf("an address of a container that is not published answers another host: %q", got)
	}
	var l net.Listener
	var err error
	inside(t, space, func() { l, err = net.Listen("tcp", "198.51.100.2:7000") })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			peer <- err.Error()
			return
		}
		defer c.Close()
		peer <- c.RemoteAddr().String()
		_, _ = io.WriteString(c, "hello from outside\n") // seen by the other side or not
	}()
	if out, stderr, code := e.Try("exec", "web", "nc", "-w", "30", "198.51.100.2", "7000"); !strings.Contains(out, "hello from outside") {
		t.Errorf("a container does not reach another host: exit code %d: %s%s", code, out, stderr)
	}
	select {
	case from := <-peer:
		if !strings.HasPrefix(from, "198.51.100.1:") {
			t.Errorf("the other host sees %s", from)
		}
	case <-time.After(need.Patience(30 * time.Second)):
		t.Error("the other host sees nobody")
	}
	e.Run("rm", "-f", "web")
}
