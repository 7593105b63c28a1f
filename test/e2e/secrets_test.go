package e2e

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// TestSecrets keeps secrets and configs with both clients, and shows them to
// containers, over the death of the daemon.
func TestSecrets(t *testing.T) {
	need.Root(t)
	docker := need.Program(t, "docker", "Debian's docker-cli")
	e := harness.Start(t)
	const value = "correct-horse-battery-staple"
	file := filepath.Join(e.Dir, "value")
	if err := os.WriteFile(file, []byte(value), 0o600); err != nil {
		t.Fatal(err)
	}
	try := func(client string, args ...string) (stdout, stderr string) {
		t.Helper()
		cmd := e.Command(client, args...)
		var out, errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errOut
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out.String()), strings.TrimSpace(errOut.String())
	}
	e.Run("secret", "create", "-l", "k=v", "db", file)
	if out, errOut := try(docker, "secret", "create", "other", file); out == "" {
		t.Fatal(errOut)
	}
	if out, errOut := try(docker, "config", "create", "conf", file); out == "" {
		t.Fatal(errOut)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	// Both clients print the same of them.
	for _, line := range []string{
		"secret ls", "secret ls -q", "secret list", "secret ls --format json", "secret ls -f name=d", "secret ls -f label=k", "secret ls -f nope=1", "secret ls --format {{.Name}}|{{.Labels}}|{{.ID}}",
		"config ls", "config ls -q", "config ls --format {{.Name}}", "secret inspect db", "secret inspect --pretty db other", "secret inspect -f {{.Spec.Name}} db", "secret inspect nope", "secret inspect -f json db",
		"config inspect conf", "config inspect --pretty conf", "config inspect --pretty nope", "inspect --type secret db", "inspect --type config conf",
		"secret rm nope", "secret rm", "config rm nope", "secret create x", "secret create x /nonexistent", "secret create -bad- /etc/hostname", "secret create db /etc/hostname", "config create x", "secret create x /dev/null", "secret create --template-driver t x /etc/hostname", "secret create -d d x",
	} {
		args := strings.Fields(line)
		out, errOut := try(docker, args...)
		mine, mineErr := try(filepath.Join(e.Bin, "lade"), args...)
		if mineErr = strings.ReplaceAll(mineErr, "lade", "docker"); out != mine || errOut != mineErr {
			t.Errorf("%s\ndocker %q %q\nlade   %q %q", line, out, errOut, mine, mineErr)
		}
	}

	e.Run("run", "-d", "--name", "user", "--init", "--secret", "db", "--secret", "other,target=pw,uid=33,gid=44,mode=0400", "--config", "conf", "lade/hello", "sleep", "1000")
	reads := func(name string) {
		t.Helper()
		for _, path := range []string{"/run/secrets/db", "/run/secrets/pw", "/conf"} {
			if out := e.Run("exec", name, "cat", path); out != value {
				t.Errorf("%s of %s: %q", path, name, out)
			}
		}
		if out := e.Run("exec", name, "stat", "-c", "%a %u %g", "/run/secrets/pw"); out != "400 33 44" {
			t.Errorf("the file of %s has %q", name, out)
		}
		mounts := e.Run("exec", name, "cat", "/proc/1/mountinfo")
		for _, path := range []string{"/run/secrets/db", "/run/secrets/pw", "/conf"} {
			i := strings.Index(mounts, " "+path+" ro,")
			if i < 0 || !strings.Contains(strings.SplitN(mounts[i:], "\n", 2)[0], " - tmpfs ") {
				t.Errorf("%s of %s is not on a read-only tmpfs:\n%s", path, name, mounts)
			}
		}
	}
	reads("user")
	secret := func(who, text string) {
		t.Helper()
		if strings.Contains(text, value) {
			t.Errorf("%s tells the value", who)
		}
	}
	secret("inspect", e.Run("inspect", "user"))
	secret("secret inspect", e.Run("secret", "inspect", "db"))
	secret("the daemon's log", e.Log())

	const inUse = "Error response from daemon: rpc error: code = InvalidArgument desc = secret 'db' is in use by the following container: user"
	if _, errOut := try(docker, "secret", "rm", "db"); errOut != inUse {
		t.Errorf("removing what is used: %q", errOut)
	}
	if _, errOut, code := e.Try("run", "--secret", "nope", "lade/hello"); code != 125 || !strings.Contains(errOut, "secret nope not found") {
		t.Errorf("a secret that is not there: %d %q", code, errOut)
	}
	if _, errOut, code := e.Try("run", "--secret", "db", "--secret", "other,target=db", "lade/hello"); code != 125 || !strings.Contains(errOut, "duplicate secret target for other not allowed") {
		t.Errorf("one target for two: %d %q", code, errOut)
	}

	e.Kill()
	e.Launch()
	reads("user")
	if _, errOut, _ := e.Try("secret", "rm", "db"); strings.TrimSpace(errOut) != inUse {
		t.Errorf("removing what is used, after the daemon's death: %q", errOut)
	}
	e.Run("restart", "-t", "0", "user")
	reads("user")
	// As Docker's client asks for them, in a user namespace.
	cmd := e.Command(docker, "run", "-d", "--name", "mapped", "--annotation", "lade.userns=auto", "--annotation", "lade.secrets=db;other,target=pw,uid=33,gid=44,mode=0400", "--annotation", "lade.configs=conf", "lade/hello", "sleep", "1000")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("a container with secrets in a user namespace: %v %s", err, out)
	}
	reads("mapped")
	e.Run("rm", "-f", "user", "mapped")

	err := filepath.WalkDir(filepath.Join(e.Dir, "data"), func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(p)
		secret(p, string(raw))
		return err
	})
	if err != nil {
		t.Errorf("search the data root: %v", err)
	}
	e.Run("secret", "rm", "db", "other")
	e.Run("config", "rm", "conf")
	if out := e.Run("secret", "ls", "-q"); out != "" {
		t.Errorf("still there: %s", out)
	}
}
