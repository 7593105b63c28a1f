package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/linux/selinux"
	"lade/internal/need"
	"lade/test/harness"
)

// labelled is an engine whose containers have SELinux labels.
type labelled struct {
	*harness.Engine
	t *testing.T
}

// TestSELinux shows labels by what they keep apart, under a kernel that enforces
// them (scripts/test-vm with VM_OPTIONS="--lsm selinux"). On a kernel without a
// policy it loads one of its own.
func TestSELinux(t *testing.T) {
	if lsm, err := os.ReadFile("/sys/kernel/security/lsm"); err != nil || !strings.Contains(string(lsm), "selinux") {
		t.Skip("the kernel has no SELinux: see scripts/test-vm")
	}
	need.Root(t)
	if !selinux.Enabled() {
		loadPolicy(t)
	}
	enforce(t)
	e := harness.Start(t, "--selinux-enabled", "--add-runtime", "other="+filepath.Join(harness.Bin(t), "lade-runtime"))
	e.Import()
	if got := e.Run("info", "--format", "{{.SecurityOptions}}"); !strings.Contains(got, "name=selinux") {
		t.Errorf("info: %s", got)
	}
	for _, part := range []struct {
		name string
		run  func(labelled)
	}{
		{"labels", labelled.labels}, {"apart", labelled.apart}, {"furnished", labelled.furnished}, {"options", labelled.options},
		{"shared", labelled.shared}, {"refused", labelled.refused}, {"docker", labelled.docker}, {"others", labelled.others}, {"again", labelled.again},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(labelled{e, t}) })
	}
}

// loadPolicy gives the kernel the policy of testdata/selinux, and the machine
// its contexts for containers.
func loadPolicy(t *testing.T) {
	t.Helper()
	compiler := need.Program(t, "checkpolicy", "Debian's checkpolicy")
	text, err := os.ReadFile("testdata/selinux/policy.conf")
	if err != nil {
		t.Fatal(err)
	}
	var categories strings.Builder
	for n := range 1024 {
		fmt.Fprintf(&categories, "category c%d;\n", n)
	}
	dir := t.TempDir()
	source, policy := filepath.Join(dir, "policy.conf"), filepath.Join(dir, "policy")
	if err := os.WriteFile(source, []byte(strings.ReplaceAll(string(text), "CATEGORIES\n", categories.String())), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), compiler, "-M", "-U", "allow", "-c", "31", "-o", policy, source).CombinedOutput(); err != nil {
		t.Fatalf("checkpolicy: %v\n%s", err, out)
	}
	raw, err := os.ReadFile(policy)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/sys/fs/selinux/load", raw, 0); err != nil { // in one write
		t.Fatal(err)
	}
	const contexts = "/etc/selinux/lade-test/contexts"
	if err := os.MkdirAll(contexts, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		"/etc/selinux/config": "SELINUXTYPE=lade-test\n",
		contexts + "/lxc_contexts": `process = "system_u:system_r:container_t:s0"
file = "system_u:object_r:container_file_t:s0"
`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// enforce has the kernel enforce the policy while the test runs.
func enforce(t *testing.T) {
	t.Helper()
	const file = "/sys/fs/selinux/enforce"
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(file, before, 0); err != nil {
			t.Errorf("restore what SELinux enforced: %v", err)
		}
	})
}

// Run returns what a command line of lade printed.
func (l labelled) Run(args ...string) string {
	l.t.Helper()
	stdout, stderr, code := l.Try(args...)
	if code != 0 {
		l.t.Fatalf("lade %s: exit code %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return strings.TrimSpace(stdout)
}

// run runs a shell script in a new container to its end.
func (l labelled) run(script string, flags ...string) (out string, ok bool) {
	l.t.Helper()
	args := append([]string{"run", "--rm", "--network", "none"}, flags...)
	stdout, stderr, code := l.Try(append(args, harness.Image, "sh", "-c", script)...)
	return strings.TrimSpace(stdout + stderr), code == 0
}

// start leaves a container running that is removed when the test ends.
func (l labelled) start(name string, flags ...string) {
	l.t.Helper()
	args := append([]string{"run", "-d", "--name", name, "--network", "none"}, flags...)
	l.Run(append(args, harness.Image, "sleep", "1000")...)
	l.t.Cleanup(func() { l.Try("rm", "-f", name) })
}

func (l labelled) inspect(name, field string) string {
	l.t.Helper()
	return l.Run("inspect", "--format", "{{"+field+"}}", name)
}

// secret makes a directory with a file that only root of the host is to see.
func (l labelled) secret() (dir string) {
	l.t.Helper()
	dir = l.t.TempDir()
	if err := os.WriteFile(dir+"/secret", []byte("secret"), 0o666); err != nil {
		l.t.Fatal(err)
	}
	return dir
}

// labelOf returns the label of a file.
func (l labelled) labelOf(path string) string {
	l.t.Helper()
	var b [256]byte
	n, err := unix.Lgetxattr(path, "security.selinux", b[:])
	if err != nil {
		l.t.Fatalf("%s: %v", path, err)
	}
	return strings.TrimRight(string(b[:n]), "\x00")
}

// labels: the process, a further one, its keys and its files have the labels
// that inspect shows; two containers have different categories.
func (l labelled) labels() {
	l.start("first")
	l.start("second")
	process, files := l.inspect("first", ".ProcessLabel"), l.inspect("first", ".MountLabel")
	if !strings.HasPrefix(process, "system_u:system_r:container_t:s0:c") || strings.TrimPrefix(process, "system_u:system_r:container_t:") != strings.TrimPrefix(files, "system_u:object_r:container_file_t:") {
		l.t.Errorf("labels of process and files: %s, %s", process, files)
	}
	if other := l.inspect("second", ".ProcessLabel"); other == process {
		l.t.Errorf("two containers are %s", process)
	}
	pid := l.inspect("first", ".State.Pid")
	raw, err := os.ReadFile("/proc/" + pid + "/attr/current")
	if got := strings.TrimRight(string(raw), "\x00\n"); err != nil || got != process {
		l.t.Errorf("the process is %q, %v", got, err)
	}
	for _, flags := range [][]string{{"exec"}, {"exec", "-t"}, {"exec", "--privileged"}, {"exec", "--user", "1"}} {
		out := l.Run(append(flags, "first", "sh", "-c", "cat /proc/self/attr/current | tr -d '\\0'")...)
		if strings.TrimSpace(out) != process {
			l.t.Errorf("%v: %q", flags, out)
		}
	}
	for _, p := range []string{"", "bin/busybox", "dev", "dev/null", "dev/pts", "dev/shm", "dev/mqueue", "etc/hosts"} {
		if got := l.labelOf("/proc/" + pid + "/root/" + p); got != files {
			l.t.Errorf("/%s is %s, want %s", p, got, files)
		}
	}
	// What a joined namespace needs.
	l.start("third", "--pid", "container:first")
	if got := l.inspect("third", ".ProcessLabel"); got != process {
		l.t.Errorf("with the processes of first: %s", got)
	}
}

// apart: a process of one label can use neither a file of the host nor one of
// another container, whatever its user and capabilities, until it is labelled
// for it.
func (l labelled) apart() {
	dir := l.secret()
	read := func(flags ...string) bool {
		l.t.Helper()
		out, ok := l.run("cat /d/secret", append([]string{"--cap-add", "ALL"}, flags...)...)
		if !ok && !strings.Contains(out, "Permission denied") {
			l.t.Errorf("%v: %s", flags, out)
		}
		return ok
	}
	if read("-v", dir+":/d") {
		l.t.Error("a file of the host was read")
	}
	for _, flag := range []string{"--privileged", "--security-opt=label=disable", "--pid=host"} {
		if !read("-v", dir+":/d", flag) {
			l.t.Errorf("not with %s", flag)
		}
	}
	l.start("owner", "-v", dir+":/d:Z")
	if got := l.Run("exec", "owner", "cat", "/d/secret"); got != "secret" {
		l.t.Error(got)
	}
	l.Run("exec", "owner", "sh", "-c", "echo new > /d/new; cat /d/new")
	if want := l.inspect("owner", ".MountLabel"); l.labelOf(dir+"/secret") != want || l.labelOf(dir+"/new") != want {
		l.t.Errorf("%s and %s, want %s", l.labelOf(dir+"/secret"), l.labelOf(dir+"/new"), want)
	}
	if read("-v", dir+":/d") {
		l.t.Error("another container's file was read")
	}
	level := strings.TrimPrefix(l.inspect("owner", ".ProcessLabel"), "system_u:system_r:container_t:")
	if !read("-v", dir+":/d", "--security-opt", "label=level:"+level) {
		l.t.Error("not with the same level")
	}
	if !read("-v", dir+":/d:z") || !read("-v", dir+":/d") {
		l.t.Error("not when it is for all")
	}
	if got := l.Run("exec", "owner", "cat", "/d/secret"); got != "secret" {
		l.t.Error(got)
	}
	// Another's root and processes, from a container that sees them.
	pid := l.inspect("owner", ".State.Pid")
	if out, ok := l.run("cat /proc/"+pid+"/root/etc/passwd", "--pid", "host", "--cap-add", "ALL", "--security-opt", "label=type:container_t"); ok {
		l.t.Errorf("another's root was read: %s", out)
	}
	if out, ok := l.run("kill -0 "+pid, "--pid", "host", "--cap-add", "ALL", "--security-opt", "label=type:container_t"); ok {
		l.t.Errorf("another's process can be signalled: %s", out)
	}
}

// furnished: all that a container has of its own works under its label.
func (l labelled) furnished() {
	const script = `set -e
		: > /dev/mqueue/f # a queue: it is not written to by write(2)
		for d in / /tmp /dev/shm /run /vol /anon; do echo x > $d/f; cat $d/f > /dev/null; done
		cat /etc/hosts /etc/hostname /etc/resolv.conf > /dev/null
		head -c 1 /dev/urandom > /dev/null
		test -z "$(cat /proc/kcore)"
		test -z "$(ls /sys/firmware)"
		ls /proc/1 /sys/fs/cgroup > /dev/null
		echo done`
	flags := []string{"--tmpfs", "/run", "-v", "vol:/vol", "-v", "/anon", "--init"}
	for name, more := range map[string][]string{"own": nil, "terminal": {"-t"}, "userns": {"--userns", "auto"}, "read-only": {"--read-only", "--tmpfs", "/tmp"}, "no new privileges": {"--security-opt", "no-new-privileges"}, "runtime": {"--runtime", "other"}} {
		script := script
		switch name {
		case "userns": // what is hidden is refused; see docs/security.md
			script = strings.NewReplacer(`test -z "$(cat /proc/kcore)"`, "", `test -z "$(ls /sys/firmware)"`, "", ": > /dev/mqueue/f", "").Replace(script)
		case "read-only":
			script = strings.ReplaceAll(script, "in / /tmp", "in /tmp")
		}
		if out, ok := l.run(script, append(more, flags...)...); !ok || !strings.HasSuffix(out, "done") {
			l.t.Errorf("%s: %s", name, out)
		}
	}
	l.Run("volume", "rm", "vol")
}

// options: what --security-opt label says of the context.
func (l labelled) options() {
	current := func(flags ...string) string {
		l.t.Helper()
		out, _ := l.run("cat /proc/self/attr/current | tr -d '\\0'", flags...)
		return out
	}
	if got := current("--security-opt", "label=type:other_t", "--security-opt", "label=level:s0:c1,c2"); got != "system_u:system_r:other_t:s0:c1,c2" {
		l.t.Error(got)
	}
	for _, flag := range []string{"--security-opt=label=disable", "--privileged", "--ipc=host"} {
		if got := current(flag); strings.Contains(got, "container_t") {
			l.t.Errorf("%s: %s", flag, got)
		}
	}
}

// shared: one volume in two containers, one after the other and at once.
func (l labelled) shared() {
	l.start("one", "-v", "both:/v", "-v", "/anon")
	l.start("two", "-v", "both:/v")
	l.start("three", "--volumes-from", "one")
	l.Run("exec", "one", "sh", "-c", "echo x > /v/f; echo y > /anon/f")
	if got := l.Run("exec", "two", "cat", "/v/f"); got != "x" {
		l.t.Error(got)
	}
	if got := l.Run("exec", "three", "cat", "/v/f", "/anon/f"); got != "x\ny" {
		l.t.Error(got)
	}
	l.Run("rm", "-f", "-v", "one", "two", "three")
	l.Run("volume", "rm", "both")
}

// refused: what the policy does not know, and what would break the host; nothing
// remains of it.
func (l labelled) refused() {
	for want, flags := range map[string][]string{
		"SELinux relabeling of /usr is not allowed": {"-v", "/usr:/x:z"},
		"SELinux relabeling of / is not allowed":    {"-v", "/:/x:Z"},
		"the SELinux policy has no context":         {"--security-opt", "label=type:no_such_t"},
		"bad label option":                          {"--security-opt", "label=colour:red"},
	} {
		args := append([]string{"create"}, flags...)
		if _, stderr, code := l.Try(append(args, harness.Image, "true")...); code == 0 || !strings.Contains(stderr, want) {
			l.t.Errorf("%v: %d, %s", flags, code, stderr)
		}
	}
	if got := l.Run("ps", "-aq", "--filter", "status=created"); got != "" {
		l.t.Errorf("containers: %s", got)
	}
}

// docker: its client asks for the same.
func (l labelled) docker() {
	need.Program(l.t, "docker", "Debian's docker-cli")
	cmd := l.Command("docker", "run", "--rm", "--network", "none", "--security-opt", "label=type:other_t", "-v", l.secret()+":/d:Z", harness.Image,
		"sh", "-c", "cat /d/secret; cut -d : -f 3 /proc/self/attr/current")
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "secretother_t" {
		l.t.Errorf("a private file, read with its label: %s, %v", out, err)
	}
}

// others: another runtime applies the same labels.
func (l labelled) others() {
	l.start("other", "--runtime", "other")
	want := l.inspect("other", ".ProcessLabel")
	for _, get := range []string{"cat /proc/1/attr/current", "cat /proc/self/attr/current"} {
		if got := strings.TrimRight(l.Run("exec", "other", "sh", "-c", get+" | tr -d '\\0'"), "\n"); got != want {
			l.t.Errorf("%s: %q, want %q", get, got, want)
		}
	}
	if _, ok := l.run("cat /d/secret", "--runtime", "other", "-v", l.secret()+":/d"); ok {
		l.t.Error("a file of the host was read")
	}
}

// again: labels are a container's for life, and nobody else's.
func (l labelled) again() {
	l.start("life")
	before := l.inspect("life", ".ProcessLabel")
	l.Run("exec", "life", "sh", "-c", "echo x > /f")
	l.Stop()
	l.Launch()
	l.Run("restart", "-t", "0", "life")
	if got := strings.TrimSpace(l.Run("exec", "life", "sh", "-c", "cat /proc/self/attr/current | tr -d '\\0'")); got != before || l.inspect("life", ".ProcessLabel") != before {
		l.t.Errorf("%q, was %q", got, before)
	}
	if got := l.Run("exec", "life", "cat", "/f"); got != "x" {
		l.t.Error(got)
	}
}
