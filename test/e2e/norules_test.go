package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/need"
	"lade/test/harness"
)

// pageOn asks a web server for its page, from a host.
func pageOn(host *os.File, addr string) error {
	return netns.Do(host, func() error {
		c, err := net.DialTimeout("tcp", addr, need.Patience(30*time.Second))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
		page, err2 := io.ReadAll(c)
		if err = errors.Join(err, err2); err == nil && !strings.HasSuffix(string(page), "served\n") {
			err = fmt.Errorf("it says %q", page)
		}
		return err
	})
}

// ownHost makes a network namespace that stands for a host, with nothing but lo.
func ownHost(t *testing.T) *os.File {
	t.Helper()
	host, err := netns.New(func(ns *os.File) error {
		c, err := netlink.Dial(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer c.Close()
		var r netlink.Request
		r.SetUp(1, "")
		return c.Do(&r)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close() })
	return host
}

// TestNoRules starts an engine that may not touch the host's firewall.
func TestNoRules(t *testing.T) {
	need.Root(t)
	docker, nft := need.Program(t, "docker", "Docker's client"), need.Program(t, "nft", "Debian's nftables")
	host := ownHost(t)
	here := func(name string, args ...string) (out string) {
		t.Helper()
		err := netns.Do(host, func() error {
			raw, err := exec.Command(name, args...).CombinedOutput()
			out = string(raw)
			return err
		})
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		return out
	}
	e := harness.StartIn(t, host, "--iptables=false", "--ip6tables=false")
	run := func(args ...string) string {
		t.Helper()
		out, err := e.Command(docker, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	run("run", "-d", "--name", "web", "-p", "8080:80", "lade/hello", "sh", "-c", "mkdir /w; echo served > /w/index.html; exec httpd -p 80 -h /w")
	err := pageOn(host, "127.0.0.1:8080")
	for end := time.Now().Add(need.Patience(30 * time.Second)); err != nil && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		err = pageOn(host, "127.0.0.1:8080") // its server begins
	}
	if err != nil {
		t.Errorf("the published port: %v", err)
	}
	if got := here(nft, "list", "ruleset"); strings.Contains(got, "chain") {
		t.Errorf("rules of nftables: %s", got)
	}
	if got := e.Run("port", "web"); !strings.Contains(got, "(gate)") {
		t.Errorf("lade port says %s", got)
	}
	run("rm", "-f", "web")
}
