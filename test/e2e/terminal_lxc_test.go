package e2e

import (
	"strings"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// TestTerminalLXC: a shell in a container of LXC has its terminal: jobs, and a ^C
// that interrupts what is in the foreground only.
func TestTerminalLXC(t *testing.T) {
	need.Root(t)
	need.Program(t, "docker", "Debian's docker-cli")
	need.Program(t, "lxc-start", "Debian's lxc")
	e := harness.Start(t)
	image := e.Import()
	for _, client := range []string{"lade", "docker"} {
		t.Run(client, func(t *testing.T) {
			s := show(t, e, client, "run", "-it", "--rm", "--runtime", "lxc", image, "sh")
			s.until("# ")
			s.typed("readlink /proc/1/exe; ps -o tty,args | grep -c lade-init\r")
			s.until("busybox")
			s.typed("sleep 1000 & jobs\r")
			s.until("Running")
			s.typed("echo >/dev/tty controlled; kill %1\r")
			s.until("\ncontrolled")
			s.typed("echo began; sleep 1000\r")
			s.until("\nbegan")
			s.typed(ctrlC)
			s.typed("echo code $?\r")
			s.until("code 130")
			s.typed("exit 4\r")
			s.wants(4)
			s = show(t, e, client, "run", "-it", "--rm", "--runtime", "lxc", "-u", "1000", image, "sh", "-c", "echo as $(id -u) >/dev/tty; exec sh -i")
			s.until("as 1000")
			s.typed("exit 3\r")
			s.wants(3)
			s = show(t, e, client, "run", "-it", "--rm", "--init", "--runtime", "lxc", image, "sh", "-c", "echo ready; sleep 1000")
			s.until("ready")
			s.typed(ctrlC)
			s.wants(130)
			s = show(t, e, client, "run", "-it", "--rm", "--runtime", "lxc", image, "nope")
			s.wants(127)
		})
	}
}

// TestLinesLXC: what is written to a terminal passes one that does what a terminal
// does with lines, and no second one.
func TestLinesLXC(t *testing.T) {
	need.Root(t)
	need.Program(t, "lxc-start", "Debian's lxc")
	e := harness.Start(t)
	image := e.Import()
	for script, want := range map[string]string{
		`printf 'a\nb'`:                     "a\r\nb",
		`stty raw; printf 'a\nb'`:           "a\nb",
		`stty -onlcr; printf 'a\nb\r\nc'`:   "a\nb\r\nc",
		`stty raw -echo; printf 'a\r\r\nb'`: "a\r\r\nb",
	} {
		for _, runtime := range []string{"lade", "lxc"} {
			if got := e.Run("run", "-t", "--rm", "--network", "none", "--runtime", runtime, image, "sh", "-c", script); got != want {
				t.Errorf("%s: %s: %q, want %q", runtime, script, got, want)
			}
		}
	}
}

// TestLastWordsLXC: LXC copies what a terminal shows, and goes on with that when
// the container's process has ended already.
func TestLastWordsLXC(t *testing.T) {
	need.Root(t)
	need.Program(t, "lxc-start", "Debian's lxc")
	e := harness.Start(t)
	image := e.Import()
	const times = 15
	for range times {
		out := e.Run("run", "-t", "--rm", "--network", "none", "--runtime", "lxc", image, "sh", "-c", "seq 1 200; echo last")
		if lines := strings.Fields(out); len(lines) != 201 || lines[200] != "last" {
			t.Fatalf("%d lines, the end is %.20q", len(lines), out[max(0, len(out)-20):])
		}
	}
}
