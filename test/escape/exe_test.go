package escape

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"lade/test/harness"
)

func digest(t *testing.T, path string) [32]byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(b)
}

// TestOverwriteRuntime is CVE-2019-5736: a process of the container gets hold of
// the runtime's program through /proc/PID/exe while an exec enters, kept there
// by a script whose interpreter is /proc/self/exe, and overwrites it. And it is
// CVE-2016-9962: it reads the memory of the process that enters.
func TestOverwriteRuntime(t *testing.T) {
	w := newWorld(t)
	programs := map[string][32]byte{}
	for _, name := range []string{"lade-supervisor", "lade-runtime", "laded", "lade-init"} {
		p := filepath.Join(harness.Bin(t), name)
		programs[p] = digest(t, p)
	}
	evil := w.file("evil", "#!/proc/self/exe\n", 0o755)
	for _, o := range []options{nil, {"--init"}, {"--cap-add", "SYS_PTRACE"}} {
		mine := []string{"overwrite", "4", "/payload", "/bin/busybox"}
		if len(o) > 0 && o[0] == "--init" {
			mine = append(mine, "/sbin/docker-init")
		}
		w.spawn("attacker", append(options{"-v", evil + ":/evil:ro"}, o...), mine...)
		w.Run("exec", "attacker", "ln", "-s", "/proc/self/exe", "/self")
		for range 5 {
			for _, program := range []string{"/self", "/proc/self/exe", "/proc/thread-self/exe"} {
				if out, stderr, code := w.Try("exec", "attacker", program); code == 0 {
					t.Errorf("%v: exec %s: %s%s", o, program, out, stderr)
				}
			}
			w.Try("exec", "attacker", "/evil")
		}
		out := w.end("attacker")
		// The script makes the kernel execute the supervisor inside, which shows
		// its file: read-only, and on a mount that nobody can change.
		withstood(t, strings.Join(o, " "), out)
	}
	if out, stderr, code := w.Try("run", "--rm", harness.Image, "/proc/self/exe"); code == 0 || !strings.Contains(stderr, "too many levels of symbolic links") {
		t.Errorf("run /proc/self/exe: %d %s%s", code, out, stderr)
	}
	for p, before := range programs {
		if digest(t, p) != before {
			t.Errorf("%s was changed", p)
		}
	}

	root := w.rootfs("naive")
	if err := os.WriteFile(filepath.Join(root, "evil"), []byte("#!/proc/self/exe\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	runtime := build(t, w.mkdir("runtime"), "")
	succeeded(t, "a naive runtime", w.control("naive-5736", root, runtime))
}

// TestMemory is CVE-2016-9962: while a process enters the container it still is
// the engine's, and its memory the engine's; a process of the container must
// not read it, not even with CAP_SYS_PTRACE, which may trace what it sees.
func TestMemory(t *testing.T) {
	w := newWorld(t)
	secret := filepath.Join(w.Dir, "exec") // where the supervisor keeps its files
	for _, o := range []options{nil, {"--cap-add", "SYS_PTRACE"}, {"--cap-add", "SYS_PTRACE", "--security-opt", "seccomp=unconfined"}} {
		// The hunter must not tell the engine the word itself.
		w.spawn("hunter", append(options{"-v", w.file("word", secret, 0o600) + ":/word:ro"}, o...), "hunt", "60", "lade-supervisor", "/word")
		for i := range 20 {
			if out, stderr, code := w.Try("exec", "hunter", "sh", "-c", "exit "+strconv.Itoa(i)); code != i {
				t.Errorf("%v: exec %d: %d %s%s", o, i, code, out, stderr)
			}
		}
		w.Run("kill", "-s", "TERM", "hunter")
		out := w.end("hunter")
		withstood(t, strings.Join(o, " "), out)
		if !strings.Contains(out, "seen ") {
			t.Error(out)
		}
	}
	// The same among the host's processes, where the engine is.
	out := w.attack(options{"--pid=host", "--privileged", "-v", filepath.Join(w.dir, "word") + ":/word:ro"}, "hunt", "30", "lade-supervisor", "/word", strconv.Itoa(w.Supervisor()))
	succeeded(t, "a privileged container among the host's processes", out)
}
