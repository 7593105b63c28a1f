package main

import (
	"errors"
	"io/fs"
	"os"
	"testing"
)

// Wherever a writer is killed, a reader finds what was before or what is after,
// and the next writer is not disturbed.
func TestStateFile(t *testing.T) {
	f := stateFileIn(t.TempDir())
	read := func(config, want string) {
		t.Helper()
		c, s, err := f.read()
		if want == "" && errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil || string(c) != config || string(s) != want {
			t.Errorf("%q %q %v; want %q %q", c, s, err, config, want)
		}
	}
	read("", "")
	if err := f.create([]byte("{\n \"a\": 1\n}")); err != nil {
		t.Fatal(err)
	}
	const config = `{  "a": 1 }`
	read("", "")
	for _, s := range []string{`{"n":1}`, `{"n":22}`} {
		before, err := os.ReadFile(f.path)
		if err != nil {
			t.Fatal(err)
		}
		_, old, _ := f.read()
		if err := f.add([]byte(s)); err != nil {
			t.Fatal(err)
		}
		read(config, s)
		after, err := os.ReadFile(f.path)
		if err != nil {
			t.Fatal(err)
		}
		for n := len(before); n < len(after); n++ {
			if err := os.WriteFile(f.path, after[:n], 0o600); err != nil {
				t.Fatal(err)
			}
			read(config, string(old))
			if err := f.add([]byte(`{"next":true}`)); err != nil {
				t.Fatal(err)
			}
			read(config, `{"next":true}`)
		}
		if err := os.WriteFile(f.path, after, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.create(nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second one: %v", err)
	}
	if err := errors.Join(f.remove(), f.remove()); err != nil {
		t.Error(err)
	}
	read("", "")
}
