package crash

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lade/test/harness"
)

// TestCheck damages copies of an engine's data, and expects every damage to be
// named.
func TestCheck(t *testing.T) {
	e := harness.Start(t)
	img := e.Import()
	port := harness.FreePort(t)
	e.Run("create", "--name", "one", "-v", "named:/data", img, "true")
	e.Run("run", "-d", "--name", "two", "-p", port+":80", img, "sleep", "1000")
	if out, err := e.Check(); err == nil || !strings.Contains(out, "in use") {
		t.Errorf("while the daemon runs: %v, %s", err, out)
	}
	one, two := inspect(e, "one", ".Id"), inspect(e, "two", ".Id")
	e.Stop()
	if out, err := e.Check(); err != nil || out != "clean\n" {
		t.Fatalf("%v: %s", err, out)
	}
	only := func(root, pattern string) string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		return found[0]
	}
	write := func(path, content string) error {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		return os.WriteFile(path, []byte(content), 0o600)
	}
	for _, c := range []struct {
		name, fault string
		damage      func(data, run string) error
	}{
		{"snapshot without files", "damaged", func(d, _ string) error { return os.RemoveAll(only(d, "overlay2/s/*/*")) }},
		{"container without snapshot", "container " + one + ": has no snapshot", func(d, _ string) error { return os.Remove(only(d, "overlay2/keys/"+one+".*")) }},
		{"files without snapshot", "belong to no snapshot", func(d, _ string) error { return os.MkdirAll(filepath.Join(d, "overlay2/s/0/zzz0"), 0o700) }},
		{"snapshot without container", "belongs to nobody", func(d, _ string) error {
			from := only(d, "overlay2/keys/"+one+".*")
			return os.Rename(from, strings.Replace(from, one, "0"+one[1:]+"x", 1))
		}},
		{"directory without container", "belongs to no container", func(d, _ string) error { return os.MkdirAll(filepath.Join(d, "containers/x"), 0o700) }},
		{"container without directory", "container " + one + ": has no directory", func(d, _ string) error { return os.RemoveAll(filepath.Join(d, "containers", one)) }},
		{"volume without directory", "volume named: ", func(d, _ string) error { return os.RemoveAll(filepath.Join(d, "volumes/named")) }},
		{"directory without volume", "belongs to no volume", func(d, _ string) error { return os.MkdirAll(filepath.Join(d, "volumes/x"), 0o700) }},
		{"image without blob", "not found", func(d, _ string) error { return os.Remove(only(d, "content/blobs/sha256/*")) }},
		{"blob without image", "belongs to no image", func(d, _ string) error {
			return write(filepath.Join(d, "content/blobs/sha256/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"), "")
		}},
		{"blob of the wrong length", "bytes, not", func(d, _ string) error {
			blobs, err := filepath.Glob(filepath.Join(d, "content/blobs/sha256/*"))
			for _, b := range blobs {
				err = os.Truncate(b, 3)
			}
			return err
		}},
		{"damaged blob", "the stored blob has digest", func(d, _ string) error {
			f, err := os.OpenFile(only(d, "content/blobs/sha256/*"), os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt([]byte{0xff}, 10)
			return err
		}},
		{"exit of nobody", "exit record zzz: there is no such container", func(_, r string) error { return write(filepath.Join(r, "exits/zzz"), `{"id":"zzz"}`) }},
		{"damaged exit", "exit record zzz: damaged", func(_, r string) error { return write(filepath.Join(r, "exits/zzz"), `{`) }},
		{"group of nobody", "control group of container " + one, func(_, r string) error { return os.Symlink("/lade/"+one, filepath.Join(r, "groups", one)) }},
		{"no records", "belongs to no container", func(d, _ string) error { return os.RemoveAll(filepath.Join(d, "records/records.db")) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			data, run := filepath.Join(dir, "data"), filepath.Join(dir, "run")
			copyAll(t, filepath.Join(e.Dir, "data"), data)
			copyAll(t, filepath.Join(e.Dir, "exec"), run)
			if err := c.damage(data, run); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(filepath.Join(e.Bin, "laded"), "check", "--deep", "--data-root", data, "--exec-root", run).CombinedOutput()
			if err == nil || !strings.Contains(string(out), c.fault) {
				t.Errorf("%v: no %q in:\n%s", err, c.fault, out)
			}
		})
	}
	e.Launch()
	e.Run("rm", "-f", "one", two)
	e.Run("volume", "rm", "named")
}

func copyAll(t *testing.T, from, to string) {
	t.Helper()
	// Sockets cannot be copied, and nobody misses them.
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil && !strings.Contains(string(out), "supervisor.sock") {
		t.Fatalf("%v: %s", err, out)
	}
}
