package xattr

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/need"
)

func TestAttributes(t *testing.T) {
	d := t.TempDir()
	for _, n := range []string{"f", "sub"} {
		if err := os.Mkdir(filepath.Join(d, n), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(d, "f")); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(d, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.Open(d, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := Get(int(f.Fd()), "user.a"); !Absent(err) {
		t.Fatalf("an attribute that is not there: %v", err)
	}
	if l, err := ListAt(fd, "f"); len(l) != 0 || err != nil {
		t.Fatalf("a file without attributes lists %v, %v", l, err)
	}
	large := bytes.Repeat([]byte("x"), 2000)
	for _, err := range []error{
		Set(int(f.Fd()), "user.a", []byte("1")), SetAt(fd, "f", "user.large", large), SetAt(fd, "", "user.top", nil), SetAt(fd, "sub", "user.s", []byte("\x00")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if v, err := Get(int(f.Fd()), "user.large"); !bytes.Equal(v, large) || err != nil {
		t.Errorf("%d bytes, %v", len(v), err)
	}
	if v, err := GetAt(fd, "f", "user.a"); string(v) != "1" || err != nil {
		t.Errorf("GetAt of user.a: %q, %v", v, err)
	}
	if v, err := GetAt(fd, "", "user.top"); len(v) != 0 || err != nil {
		t.Errorf("GetAt of the directory itself: %q, %v", v, err)
	}
	if v, err := GetAt(fd, "sub", "user.s"); string(v) != "\x00" || err != nil {
		t.Errorf("GetAt of a directory below: %q, %v", v, err)
	}
	l, err := List(int(f.Fd()))
	slices.Sort(l)
	if !slices.Equal(l, []string{"user.a", "user.large"}) || err != nil {
		t.Errorf("List: %v, %v", l, err)
	}
	l, err = ListAt(fd, "f")
	slices.Sort(l)
	if !slices.Equal(l, []string{"user.a", "user.large"}) || err != nil {
		t.Errorf("ListAt: %v, %v", l, err)
	}
}

// TestLinks checks that a link itself is meant, not what it leads to.
func TestLinks(t *testing.T) {
	need.Root(t)
	d := t.TempDir()
	if err := os.WriteFile(filepath.Join(d, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("f", filepath.Join(d, "l")); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd := int(f.Fd())
	if err := SetAt(fd, "l", "trusted.lade", []byte("link")); err != nil {
		t.Fatal(err)
	}
	if _, err := GetAt(fd, "f", "trusted.lade"); !Absent(err) {
		t.Errorf("the link was followed: %v", err)
	}
	if v, err := GetAt(fd, "l", "trusted.lade"); string(v) != "link" || err != nil {
		t.Errorf("GetAt of a link: %q, %v", v, err)
	}
}

func TestSetTopDir(t *testing.T) {
	need.Root(t)
	if err := SetTopDir(t.TempDir()); err != nil && !Unsupported(err) {
		t.Error(err)
	}
	if err := SetTopDir("/dev/shm"); err != nil && !Unsupported(err) {
		t.Error(err)
	}
}
