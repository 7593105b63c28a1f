package network

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lade/internal/need"
)

// command runs a program on the host of the tests.
func command(t testing.TB, name string, args ...string) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// ufw returns a function that runs ufw(8) with a configuration of its own.
func ufw(t testing.TB) func(args ...string) {
	t.Helper()
	need.Program(t, "ufw", "Debian's ufw")
	dir := filepath.Join(t.TempDir(), "ufw")
	if err := os.CopyFS(dir, os.DirFS("/etc/ufw")); err != nil {
		t.Fatal(err)
	}
	return func(args ...string) {
		t.Helper()
		inside := `mount --bind "$1" /etc/ufw && shift && exec ufw "$@"`
		command(t, "unshare", append([]string{"--mount", "--propagation", "private", "sh", "-c", inside, "sh", dir}, args...)...)
	}
}

// TestFirewalls has the host's own firewalls beside ours: Debian's iptables, which
// is nftables underneath, ufw on top of it, and one that clears everything.
func TestFirewalls(t *testing.T) {
	need.Program(t, "iptables-nft", "Debian's iptables")
	need.Program(t, "nft", "Debian's nftables")
	ufw := ufw(t)
	b := newBench(t, nil)
	gated, plain := machine.String()+":8080", machine.String()+":8081"
	one := b.connect(Request{Name: "one", Ports: []Publish{
		{Proto: "tcp", Port: 80, HostPort: 8080, Policy: PolicyGate}, {Proto: "tcp", Port: 80, HostPort: 8081}, {Proto: "tcp", Port: 79, HostPort: 8079, Policy: PolicyGate},
	}})
	serve(t, one.NetNS, "tcp", ":80")
	echo(t, one.NetNS, ":79")
	talk := conversation(t, b.other, machine.String()+":8079")
	outsideTo := func(what, addr string, want bool) {
		t.Helper()
		if want {
			answers(t, what, b.other, "tcp", addr, outside.String())
		} else {
			silent(t, what, b.other, "tcp", addr)
		}
		if err := talk(); err != nil {
			t.Errorf("%s: a connection from before: %v", what, err)
		}
	}

	command(t, "iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "8080", "-j", "DROP")
	command(t, "iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "8081", "-j", "DROP")
	outsideTo("iptables refuses it", gated, false)
	outsideTo("what is translated is none of INPUT's", plain, true)
	command(t, "iptables-nft", "-F", "INPUT")
	outsideTo("iptables allows it", gated, true)
	command(t, "iptables-nft", "-P", "FORWARD", "DROP")
	outsideTo("the gate forwards nothing", gated, true)
	outsideTo("what is translated is forwarded", plain, false)
	command(t, "iptables-nft", "-A", "FORWARD", "-o", b.c.Bridge, "-j", "ACCEPT")
	command(t, "iptables-nft", "-A", "FORWARD", "-i", b.c.Bridge, "-j", "ACCEPT")
	outsideTo("forwarding to and from the bridge is allowed", plain, true)

	// Everything goes, at a stroke; ours comes back by itself.
	command(t, "nft", "flush", "ruleset")
	for _, addr := range []string{gated, plain} {
		eventually(t, "after nft flush ruleset: "+addr, func() error {
			from, err := ask(b.other, "tcp", addr, patience)
			if err == nil && from != outside.String() {
				err = errors.New("from " + from)
			}
			return err
		})
	}

	ufw("--force", "enable")
	defer command(t, "nft", "delete", "table", "ip", "filter")
	defer command(t, "nft", "delete", "table", "ip6", "filter")
	outsideTo("ufw denies what nobody allowed", gated, false)
	outsideTo("ufw denies forwarding", plain, false)
	answers(t, "ufw and the host itself", nil, "tcp", "127.0.0.1:8080", b.gateway().String())
	ufw("allow", "from", outside.String(), "to", "any", "port", "8080", "proto", "tcp")
	outsideTo("ufw allow", gated, true)
	ufw("route", "allow", "out", "on", b.c.Bridge)
	outsideTo("ufw route allow", plain, true)
}
