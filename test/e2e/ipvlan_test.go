package e2e

import (
	"strings"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// TestIPVLAN has containers of an ipvlan network without a parent reach each other
// by name, in each of its modes and with both clients, also after the end of the
// daemon. Their links share one hardware address.
func TestIPVLAN(t *testing.T) {
	need.Root(t)
	need.Program(t, "docker", "Debian's docker-cli")
	e := harness.Start(t)
	if _, stderr, code := e.Try("network", "create", "-d", "ipvlan", "probe"); strings.Contains(stderr, "the kernel has no ipvlan") {
		t.Skip(strings.TrimSpace(stderr))
	} else if code != 0 {
		t.Fatal(stderr)
	}
	e.Run("network", "rm", "probe")
	for mode, client := range map[string]string{"l2": "lade", "l3": "docker", "l3s": "lade"} {
		run := func(args ...string) string {
			t.Helper()
			out, err := e.Command(client, args...).CombinedOutput()
			if err != nil {
				t.Fatalf("%s %s: %v\n%s", client, strings.Join(args, " "), err, out)
			}
			return strings.TrimSpace(string(out))
		}
		run("network", "create", "-d", "ipvlan", "-o", "ipvlan_mode="+mode, "lan")
		run("run", "-d", "--name", "web", "--network", "lan", "lade/hello", "sh", "-c", "mkdir /w; echo "+mode+" >/w/index.html; exec httpd -p 80 -h /w")
		run("run", "-d", "--name", "asks", "--network", "lan", "lade/hello", "sleep", "1000")
		asks := func(when string) {
			t.Helper()
			need.Eventually(t, mode+": web answers by its name "+when, func() bool {
				out, _, _ := e.Try("exec", "asks", "wget", "-q", "-T", "5", "-O", "-", "http://web/index.html")
				return out == mode+"\n"
			})
		}
		asks("at first")
		e.Kill()
		e.Launch()
		asks("with another daemon")
		run("restart", "-t", "0", "web")
		asks("started again")
		mac := []string{"cat", "/sys/class/net/eth0/address"}
		if a, b := run(append([]string{"exec", "web"}, mac...)...), run(append([]string{"exec", "asks"}, mac...)...); a != b {
			t.Errorf("%s: the links have the addresses %s and %s", mode, a, b)
		}
		run("rm", "-f", "web", "asks")
		run("network", "rm", "lan")
	}
}
