package e2e

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/need"
	"lade/test/harness"
)

// listenTLS is a receiver with a certificate of the authority; strict wants one of
// its clients, too. Its kernel takes a few lines only, so that most of them are
// still with the sender when a receiver has read some.
func (c *authority) listenTLS(strict bool) net.Listener {
	c.t.Helper()
	c.sign("server", []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth})
	pair, err := tls.LoadX509KeyPair(c.file("server.pem"), c.file("server-key.pem"))
	if err != nil {
		c.t.Fatal(err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if strict {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		config.ClientCAs.AddCert(c.cert)
	}
	small := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error {
		var failed error
		err := conn.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) })
		return errors.Join(err, failed)
	}}
	l, err := small.Listen(c.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { l.Close() })
	return tls.NewListener(l, config)
}

func (c *authority) file(name string) string { return filepath.Join(c.dir, name) }

// TestLogTLS sends logs to receivers that are reached over TLS, and has what
// speaks it die in the middle.
func TestLogTLS(t *testing.T) {
	need.Root(t)
	a := newAuthority(t)
	a.sign("client", []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth})
	e := harness.StartFrom(t, harness.Bin(t), []string{"SSL_CERT_FILE=" + a.file("ca.pem")})
	e.Run("run", "--rm", "lade/hello", "true") // the image is there
	t.Run("syslog", func(t *testing.T) { testSyslogTLS(t, e, a) })
	t.Run("untrusted", func(t *testing.T) { testUntrusted(t, e, a) })
	t.Run("fluentd", func(t *testing.T) { testFluentdTLS(t, e, a) })
}

// testSyslogTLS has the relay killed after some lines: none is lost, as the
// supervisor sends again what the receiver's kernel had not acknowledged.
func testSyslogTLS(t *testing.T, e *harness.Engine, a *authority) {
	const n = 3000
	l := a.listenTLS(true)
	got := make(chan []string)
	go func() {
		defer close(got)
		var lines []string
		last := -1
		for connection := range 2 { // each to its end: the second one's is that of the log
			c, err := l.Accept()
			if err != nil {
				return
			}
			for r := bufio.NewReader(c); ; {
				line, err := counted(r)
				if err != nil {
					break
				}
				text := line[strings.LastIndex(line, "line "):]
				if i, err := strconv.Atoi(strings.TrimPrefix(text, "line ")); err != nil || i > last { // not told twice
					lines, last = append(lines, text), i
				}
				if connection == 0 && last == n/2 {
					killRelay(t, e)
				}
			}
			c.Close()
		}
		got <- lines
	}()
	e.Run("run", "--rm", "--log-driver", "syslog", "--log-opt", "syslog-address=tcp+tls://"+l.Addr().String(), "--log-opt", "syslog-format=rfc5424",
		"--log-opt", "syslog-tls-ca-cert="+a.file("ca.pem"), "--log-opt", "syslog-tls-cert="+a.file("client.pem"), "--log-opt", "syslog-tls-key="+a.file("client-key.pem"),
		"lade/hello", "sh", "-c", count(n))
	arrived(t, got, n)
}

// counted reads one message whose length stands before it (RFC 5425, 4.3).
func counted(r *bufio.Reader) (string, error) {
	length, err := r.ReadString(' ')
	if err != nil {
		return "", err
	}
	size, err := strconv.Atoi(strings.TrimSuffix(length, " "))
	if err != nil {
		return "", err
	}
	b := make([]byte, size)
	_, err = io.ReadFull(r, b)
	return strings.TrimSuffix(string(b), "\n"), err
}

// arrived waits for what a receiver got in all: n lines in order.
func arrived(t *testing.T, got <-chan []string, n int) {
	t.Helper()
	select {
	case lines := <-got:
		numbered(t, lines, n)
	case <-time.After(need.Patience(30 * time.Second)):
		t.Fatalf("the target has not received all of %d lines", n)
	}
}

// killRelay kills the engine's log relay.
func killRelay(t *testing.T, e *harness.Engine) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Errorf("list processes: %v", err)
	}
	for _, path := range all {
		raw, _ := os.ReadFile(path) // it may have ended
		if args := strings.Split(string(raw), "\x00"); len(args) > 3 && args[1] == "log-relay" && strings.HasPrefix(args[3], e.Dir+"/") {
			var pid int
			if _, err := fmt.Sscanf(path, "/proc/%d/cmdline", &pid); err != nil {
				t.Errorf("the relay's process id: %v", err)
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Errorf("kill the relay: %v", err)
			}
			return
		}
	}
	t.Error("there is no relay")
}

// testUntrusted: who cannot prove to be the receiver gets nothing, unless that
// was asked for.
func testUntrusted(t *testing.T, e *harness.Engine, a *authority) {
	other := newAuthority(t)
	l := other.listenTLS(false)
	lines := make(chan string)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			line, err := bufio.NewReader(c).ReadString('\n')
			if err == nil {
				lines <- line
			}
			c.Close()
		}
	}()
	run := func(name string, options ...string) {
		args := append([]string{"run", "-d", "--name", name, "--log-driver", "syslog", "--log-opt", "syslog-address=tcp+tls://" + l.Addr().String(), "--log-opt", "mode=non-blocking"}, options...)
		e.Run(append(args, "lade/hello", "sh", "-c", "echo for "+name)...)
	}
	run("nobody", "--log-opt", "syslog-tls-ca-cert="+a.file("ca.pem"))
	for end := time.Now().Add(need.Patience(30 * time.Second)); !strings.Contains(e.Log(), "certificate signed by unknown authority"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no word of the certificate in\n%s", e.Log())
		}
	}
	run("anybody", "--log-opt", "syslog-tls-skip-verify=true")
	select {
	case got := <-lines:
		if !strings.Contains(got, "for anybody") {
			t.Errorf("received %q", got)
		}
	case <-time.After(need.Patience(30 * time.Second)):
		t.Fatal("the target that nobody verified has received nothing")
	}
	e.Run("rm", "-f", "nobody", "anybody")
}

// testFluentdTLS: the receiver is trusted because the system trusts it, and
// acknowledges what it has.
func testFluentdTLS(t *testing.T, e *harness.Engine, a *authority) {
	const n = 500
	l := a.listenTLS(false)
	got := make(chan []string, 1)
	go func() {
		defer close(got)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		var lines []string
		for r := bufio.NewReader(c); len(lines) < n; {
			v, err := unmsgpack(r)
			if err != nil {
				t.Errorf("read an entry: %v", err)
				return
			}
			entry := v.([]any)
			lines = append(lines, entry[2].(map[string]any)["log"].(string))
			chunk := entry[3].(map[string]any)["chunk"].(string)
			fmt.Fprintf(c, "\x81\xa3ack\xd9%c%s", len(chunk), chunk)
		}
		_, _ = io.Copy(io.Discard, c) // until the other side has the last acknowledgement
		got <- lines
	}()
	e.Run("run", "--name", "fluent", "--log-driver", "fluentd", "--log-opt", "fluentd-address=tls://"+l.Addr().String(), "--log-opt", "fluentd-request-ack=true",
		"lade/hello", "sh", "-c", count(n))
	arrived(t, got, n)
	numbered(t, logLines(e, "fluent"), n)
	e.Run("rm", "fluent")
}
