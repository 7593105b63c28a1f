package loop

import (
	"os"
	"path/filepath"
	"testing"

	"lade/internal/need"
)

func TestAttach(t *testing.T) {
	need.Root(t)
	need.File(t, "/dev/loop-control", "loop devices")
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	a, err := Attach(f)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := Attach(f) // another device: the first is in use
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if a.Name() == b.Name() {
		t.Errorf("%s twice", a.Name())
	}
	if _, err := a.WriteAt([]byte("here"), 4096); err != nil {
		t.Fatal(err)
	}
	if err := a.Sync(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := f.ReadAt(got, 4096); err != nil || string(got) != "here" {
		t.Errorf("the file holds %q, %v", got, err)
	}
}
