package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOverwrite has a program in a container that reads a file while it is changed:
// it never finds it empty, and the file is the same one.
func TestOverwrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	long, short := strings.Repeat("10.0.0.1 one\n", 20), "10.0.0.2 two\n"
	if err := os.WriteFile(path, []byte(long), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path) // as it is bound
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	end := make(chan struct{})
	read := make(chan struct{})
	go func() {
		defer close(read)
		buf := make([]byte, 2*len(long))
		for {
			select {
			case <-end:
				return
			default:
			}
			if n, _ := f.ReadAt(buf, 0); !strings.HasPrefix(string(buf[:n]), "10.0.0.") {
				t.Errorf("read %q", buf[:n])
				return
			}
		}
	}()
	for _, want := range []string{short, long, long, short, short, long} {
		if err := overwrite(path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	close(end)
	<-read
	if err := overwrite(filepath.Join(t.TempDir(), "none"), nil); err == nil {
		t.Error("a file that is not there was made")
	}
}
