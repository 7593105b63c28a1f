package idmap

import (
	"os"
	"path/filepath"
	"testing"
)

// What is given is what the file says now: written over, replaced, removed, broken.
func TestGiven(t *testing.T) {
	path := filepath.Join(t.TempDir(), "subuid")
	var g given
	check := func(what string, want ...uint32) {
		t.Helper()
		for range 2 {
			ids, err := g.lines(path)
			if err != nil || len(ids) != len(want) {
				t.Fatalf("%s: %v, %v", what, ids, err)
			}
			for i, w := range want {
				if ids[i].HostID != w {
					t.Errorf("%s: %v", what, ids)
				}
			}
		}
	}
	write := func(path, s string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	check("no file")
	write(path, "a:100:10\n")
	check("a file", 100)
	write(path, "a:100:10\nb:200:10\n")
	check("written", 100, 200)
	write(path+"+", "a:300:10\nb:400:10\n")
	if err := os.Rename(path+"+", path); err != nil {
		t.Fatal(err)
	}
	check("replaced", 300, 400)
	write(path, "nonsense\n")
	for range 2 {
		if _, err := g.lines(path); err == nil {
			t.Error("nonsense is taken")
		}
	}
	write(path, "a:500:10\n")
	check("mended", 500)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	check("removed")
}
