package atomicfile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "f")
	for _, content := range []string{"one", "", strings.Repeat("long", 100000)} {
		if err := Write(p, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(p)
		if err != nil || string(b) != content {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	}
	if i, err := os.Stat(p); err != nil || i.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", i, err)
	}
	// A failure leaves the old file and nothing else.
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Write(filepath.Join(dir, "d"), []byte("x"), 0o600); err == nil {
		t.Error("a directory was replaced")
	}
	if err := Write(filepath.Join(dir, "missing", "f"), nil, 0o600); !os.IsNotExist(err) {
		t.Errorf("%v", err)
	}
	if list, _ := os.ReadDir(dir); len(list) != 2 {
		t.Errorf("left behind: %v", list)
	}
}

// TestWriteReaders checks that readers see whole files.
func TestWriteReaders(t *testing.T) {
	p := filepath.Join(t.TempDir(), "f")
	if err := Write(p, []byte(strings.Repeat("0", 5000)), 0o600); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			b, err := os.ReadFile(p)
			if err != nil || len(b) != 5000 || strings.Trim(string(b), string(b[0])) != "" {
				t.Errorf("a part is visible: %d bytes, %v", len(b), err)
				return
			}
		}
	})
	for i := range 50 {
		if err := Write(p, []byte(strings.Repeat(string(rune('0'+i%10)), 5000)), 0o600); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
}

func TestRemoveTemporary(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{temporary + "1", "f", temporary + "2"} {
		if err := os.WriteFile(filepath.Join(dir, n), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := RemoveTemporary(dir); err != nil {
		t.Fatal(err)
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 || list[0].Name() != "f" {
		t.Errorf("left: %v", list)
	}
}

func TestFull(t *testing.T) {
	for err, want := range map[error]bool{
		&os.PathError{Op: "write", Err: syscall.ENOSPC}: true, fmt.Errorf("x: %w", syscall.EDQUOT): true, syscall.EIO: false,
	} {
		if Full(err) != want {
			t.Errorf("Full(%v) = %v", err, !want)
		}
	}
	if Full(nil) {
		t.Error("no error is a full disk")
	}
}
