package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lade/internal/need"
	"lade/test/harness"
)

// TestUsernsRuntimes gives containers of other runtimes user namespaces: the
// engine translates root and volumes, the runtime joins the namespace.
func TestUsernsRuntimes(t *testing.T) {
	need.Program(t, "runc", "Debian's runc")
	need.Program(t, "lxc-start", "Debian's lxc")
	e := harness.Start(t, "--add-runtime", "other="+need.Binary(t, "lade-runtime"))
	for _, r := range []string{"runc", "other", "lxc"} {
		t.Run(r, func(t *testing.T) {
			run := func(args ...string) []string {
				return append([]string{"run", "--runtime", r, "--userns=auto"}, args...)
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "mine"), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			name, volume := r+"-user", r+"-volume"
			defer func() { e.Run("rm", "-f", "-v", name); e.Run("volume", "rm", volume) }()
			e.Run(run("-d", "--name", name, "-v", volume+":/data", "-p", "127.0.0.1:"+harness.FreePort(t)+":80", "-m", "64m", "lade/hello", "sh", "-c", "echo here > /new; echo there > /data/file; echo ready; sleep 1000")...)
			ready := func(times int) {
				t.Helper()
				for end := time.Now().Add(need.Patience(30 * time.Second)); strings.Count(e.Run("logs", name), "ready") < times; time.Sleep(10 * time.Millisecond) {
					if time.Now().After(end) {
						t.Fatal("the container does not begin")
					}
				}
			}
			ready(1)
			for _, c := range []struct{ command, want string }{
				{"cat /new /data/file", "here\nthere"},
				{"stat -c %u:%g /new /data/file /bin /etc/hosts /proc/1", "0:0\n0:0\n0:0\n0:0\n0:0"},
				{"id -u", "0"},
			} {
				if out := strings.TrimSpace(e.Run("exec", name, "sh", "-c", c.command)); out != c.want {
					t.Errorf("%s: %q, want %q", c.command, out, c.want)
				}
			}
			// The streams are the user's: /dev/stdout can be opened again.
			if out := e.Run("exec", "-u", "1000:1000", name, "sh", "-c", "echo out >/dev/stdout"); out != "out" {
				t.Errorf("exec as another user: %q", out)
			}
			if out := e.Run(run("--rm", "-u", "1000:1000", "lade/hello", "sh", "-c", "echo out >/dev/stdout")...); out != "out" {
				t.Errorf("run as another user: %q", out)
			}
			uids := strings.Fields(e.Run("exec", name, "cat", "/proc/self/uid_map"))
			if len(uids) != 3 || uids[1] == "0" {
				t.Errorf("the map is %v", uids)
			}
			outside := func() {
				t.Helper()
				pid := strings.TrimSpace(e.Run("inspect", "-f", "{{.State.Pid}}", name))
				status, err := os.ReadFile("/proc/" + pid + "/status")
				if err != nil || !strings.Contains(string(status), "Uid:\t"+uids[1]+"\t") {
					t.Errorf("outside it is not user %s: %v\n%s", uids[1], err, status)
				}
			}
			outside()
			e.Run("cp", name+":/new", dir+"/copied")
			if out := e.Run("diff", name); !strings.Contains(out, "A /new") {
				t.Errorf("diff: %s", out)
			}
			e.Run("restart", "-t", "0", name)
			ready(2)
			outside()
			if out := strings.TrimSpace(e.Run("exec", name, "stat", "-c", "%u:%g", "/new")); out != "0:0" {
				t.Errorf("after a restart: %s", out)
			}
			// A container that may nest makes control groups below its limits.
			nested := `for d in /sys/fs/cgroup /sys/fs/cgroup/memory /sys/fs/cgroup/systemd; do
					[ ! -e $d/cgroup.procs ] || { mkdir $d/below && echo 0 > $d/below/cgroup.procs; } || exit 1
				done; echo made`
			if out := e.Run("run", "--rm", "--runtime", r, "--security-opt", "nesting=true", "lade/hello", "sh", "-c", nested); out != "made" {
				t.Errorf("control groups of its own: %q", out)
			}
			if r == "runc" { // which has the limits on the same group
				nested = `for f in /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max; do [ ! -e $f ] || ! echo 100m > $f || exit 1; done`
				e.Run("run", "--rm", "--runtime", r, "--security-opt", "nesting=true", "-m", "64m", "lade/hello", "sh", "-c", nested)
			}
			// A bind is as the host has it, unless a map is asked for.
			for options, want := range map[string]string{"": "denied", ",idmap": "0:0"} {
				mount := "type=bind,source=" + dir + ",target=/host" + options
				if options != "" {
					mount = dir + ":/host:idmap"
				}
				flag := map[string]string{"": "--mount", ",idmap": "-v"}[options]
				out := e.Run(run("--rm", flag, mount, "lade/hello", "sh", "-c", "cat /host/mine >/dev/null 2>&1 && stat -c %u:%g /host/mine || echo denied")...)
				if strings.TrimSpace(out) != want {
					t.Errorf("bind%s: %q, want %s", options, out, want)
				}
			}
		})
	}
}
