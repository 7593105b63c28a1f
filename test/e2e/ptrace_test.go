package e2e

import (
	"strings"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// TestPtrace: a container in another one's process namespace may look into its
// processes with SYS_PTRACE, and not without, as those hold a capability that it
// lacks. Whoever may read a process's memory may trace it (ptrace(2), "Ptrace
// access mode checking").
func TestPtrace(t *testing.T) {
	need.Root(t)
	need.Program(t, "docker", "docker-cli")
	e := harness.Start(t)
	img, docker := e.Import(), client(t, e)
	const look = `tr '\0' '\n' </proc/1/environ | grep SECRET=word && cat /proc/1/root/secret &&
		at=$(sed -n 's/^\([0-9a-f]*\)-.*\[stack\]$/\1/p' /proc/1/maps) && dd if=/proc/1/mem bs=4096 skip=$((0x$at / 4096)) count=1 2>/dev/null | wc -c`
	for _, runtime := range []string{"lade", "runc", "lxc"} {
		t.Run(runtime, func(t *testing.T) {
			docker("run", "-d", "--runtime", runtime, "--name", "target", "--cap-add", "NET_ADMIN", "-e", "SECRET=word", img, "sh", "-c", "echo kept >/secret; exec sleep 1000")
			defer docker("rm", "-f", "target")
			args := []string{"run", "--rm", "--runtime", runtime, "--pid", "container:target"}
			with := append(append([]string{}, args...), "--cap-add", "SYS_PTRACE", img, "sh", "-c", look)
			if out := docker(with...); out != "SECRET=word\nkept\n4096\n" {
				t.Errorf("with SYS_PTRACE: %q", out)
			}
			without := append(append([]string{}, args...), img, "sh", "-c", "cat /proc/1/root/secret; cat /proc/1/environ; dd if=/proc/1/mem bs=1 count=1")
			out, err := e.Command("docker", without...).CombinedOutput()
			if said := string(out); err == nil || strings.Contains(said, "kept") || strings.Contains(said, "SECRET") || !strings.Contains(strings.ToLower(said), "permission denied") {
				t.Errorf("without: %v\n%s", err, out)
			}
		})
	}
}
