package network

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"lade/internal/need"
)

// busConfig is a system bus on which everybody may do everything: it is in a
// namespace of the test's own.
const busConfig = `<busconfig>
  <type>system</type>
  <listen>unix:path=%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default"><allow own="*"/><allow send_destination="*"/><allow receive_type="*"/></policy>
</busconfig>
`

// firewalld starts Debian's firewalld on a bus of its own, with a copy of the
// distribution's configuration. It returns a function that runs firewall-cmd(1),
// and one that writes a file of the permanent configuration.
func firewalld(t testing.TB) (command func(args ...string), permanent func(name, content string)) {
	t.Helper()
	for program, pkg := range map[string]string{"firewalld": "firewalld", "firewall-cmd": "firewalld", "dbus-daemon": "dbus"} {
		need.Program(t, program, "Debian's "+pkg)
	}
	dir := t.TempDir()
	socket, conf := filepath.Join(dir, "bus"), filepath.Join(dir, "etc")
	if err := os.CopyFS(conf, os.DirFS("/etc/firewalld")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bus.conf"), fmt.Appendf(nil, busConfig, socket), 0o600); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS=unix:path="+socket)
	background := func(name string, args ...string) {
		var said bytes.Buffer
		cmd := exec.Command(name, args...)
		cmd.Env, cmd.Stdout, cmd.Stderr = env, &said, &said
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			cmd.Process.Signal(syscall.SIGTERM)
			cmd.Wait()
			if t.Failed() {
				t.Logf("%s: %s", name, said.String())
			}
		})
	}
	background("dbus-daemon", "--nofork", "--config-file", filepath.Join(dir, "bus.conf"))
	eventually(t, "the bus is there", func() error {
		_, err := os.Stat(socket)
		return err
	})
	background("firewalld", "--nofork", "--nopid", "--system-config", conf, "--log-target", "console")
	run := func(args ...string) (string, error) {
		cmd := exec.Command("firewall-cmd", args...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	eventually(t, "firewalld is running", func() error {
		out, err := run("--state")
		if err != nil {
			err = errors.New(out)
		}
		return err
	})
	command = func(args ...string) {
		t.Helper()
		if out, err := run(args...); err != nil {
			t.Fatalf("firewall-cmd %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	permanent = func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(conf, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return command, permanent
}

// TestFirewalld has firewalld beside ours: its zones judge what the gate serves,
// what is translated passes them, and neither one's rules end the other's.
func TestFirewalld(t *testing.T) {
	need.Program(t, "nft", "Debian's nftables")
	b := newBench(t, nil)
	firewall, permanent := firewalld(t)
	gated, plain := machine.String()+":8080", machine.String()+":8081"
	one := b.connect(Request{Name: "one", Ports: []Publish{
		{Proto: "tcp", Port: 80, HostPort: 8080, Policy: PolicyGate}, {Proto: "tcp", Port: 80, HostPort: 8081},
	}})
	serve(t, one.NetNS, "tcp", ":80")
	serve(t, b.other, "tcp", ":90")
	outgoing := outside.String() + ":90"

	// The zone of the uplink is the default one, public, which lets nobody in.
	silent(t, "a zone that does not have the port", b.other, "tcp", gated)
	reaches(t, "a translated port", b.other, "tcp", plain, outside.String())
	reaches(t, "this host itself", nil, "tcp", "127.0.0.1:8080", b.gateway().String())
	silent(t, "a container goes outside", one.NetNS, "tcp", outgoing)

	// What firewall-cmd --permanent writes: see docs/ports.md.
	permanent("zones/containers.xml", `<zone><interface name="`+b.c.Bridge+`"/></zone>`)
	permanent("policies/containers-out.xml", `<policy target="ACCEPT"><ingress-zone name="containers"/><egress-zone name="ANY"/></policy>`)
	permanent("zones/office.xml", `<zone><source address="`+outside.String()+`"/><port port="8080" protocol="tcp"/></zone>`)
	firewall("--reload")
	reaches(t, "a zone that has the port, after firewall-cmd --reload", b.other, "tcp", gated, outside.String())
	reaches(t, "a translated port, after it", b.other, "tcp", plain, outside.String())
	reaches(t, "a container goes outside by a policy", one.NetNS, "tcp", outgoing, machine.String())
	firewall("--zone", "office", "--remove-port", "8080/tcp")
	silent(t, "the port is taken from the zone", b.other, "tcp", gated)
	reaches(t, "what is translated is none of the zone's", b.other, "tcp", plain, outside.String())

	// Everything goes, at a stroke, and ours comes back by itself. firewalld cannot
	// even reload until it is started again.
	command(t, "nft", "flush", "ruleset")
	reaches(t, "the gate after nft flush ruleset", b.other, "tcp", gated, outside.String())
	reaches(t, "a translated port after nft flush ruleset", b.other, "tcp", plain, outside.String())
}
