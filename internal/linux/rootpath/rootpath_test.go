package rootpath

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func tree(t *testing.T) (dir string, fd int) {
	t.Helper()
	outer := t.TempDir()
	dir = filepath.Join(outer, "root")
	for _, d := range []string{dir, dir + "/etc", dir + "/var"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(outer+"/secret", []byte("outside"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/etc/passwd", []byte("inside"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"abs": "/etc/passwd", "up": "../../../../secret", "var/run": "/run", "loop": "loop", "dangling": "../run/resolve/stub",
		"outside": outer + "/secret", "outdir": outer, "magic": "/proc/self/root",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return dir, fd
}

func TestReadFile(t *testing.T) {
	_, fd := tree(t)
	for _, name := range []string{"etc/passwd", "/etc/passwd", "abs", "../../etc/passwd"} {
		if b, err := ReadFile(fd, name, 100); string(b) != "inside" || err != nil {
			t.Errorf("ReadFile(%q) = %q, %v", name, b, err)
		}
	}
	for _, name := range []string{"up", "outside", "magic/etc/passwd"} {
		if b, err := ReadFile(fd, name, 100); !errors.Is(err, unix.ENOENT) {
			t.Errorf("ReadFile(%q) = %q, %v", name, b, err)
		}
	}
	if _, err := ReadFile(fd, "etc/passwd", 5); !errors.Is(err, unix.EFBIG) {
		t.Error(err)
	}
	if _, err := ReadFile(fd, "etc", 5); !errors.Is(err, unix.EINVAL) {
		t.Error(err)
	}
}

func TestMagicLink(t *testing.T) {
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	if fd, err := Open(root, "/proc/self/exe", unix.O_RDONLY, 0); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a magic link was followed: %d, %v", fd, err)
	}
}

func TestMakeAll(t *testing.T) {
	dir, fd := tree(t)
	for name, where := range map[string]string{
		"a/b/c": "a/b/c", "/var/run/x": "run/x", "dangling": "run/resolve/stub", "../../up2": "up2", "abs": "etc/passwd",
	} {
		file := name == "dangling" || name == "abs"
		for range 2 {
			if err := MakeAll(fd, name, file); err != nil {
				t.Errorf("MakeAll(%q): %v", name, err)
			}
		}
		if st, err := os.Lstat(filepath.Join(dir, where)); err != nil || st.IsDir() == file {
			t.Errorf("MakeAll(%q): %v, %v", name, st, err)
		}
	}
	if err := MakeAll(fd, "outdir/new", false); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(filepath.Dir(dir), "new")); err == nil {
		t.Error("made outside the root")
	}
	if err := MakeAll(fd, "loop/x", false); !errors.Is(err, unix.ELOOP) {
		t.Error(err)
	}
	if err := MakeAll(fd, "etc/passwd/x", false); !errors.Is(err, unix.ENOTDIR) {
		t.Error(err)
	}
}
