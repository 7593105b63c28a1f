package netns

import (
	"errors"
	"os"
	"sync"
	"testing"

	"lade/internal/need"
)

func id(t *testing.T) string {
	t.Helper()
	s, err := os.Readlink(self)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestReturn checks that code runs where it should, and that no thread stays
// behind in another namespace.
func TestReturn(t *testing.T) {
	need.Root(t)
	home := id(t)
	var made string
	ns, err := New(func(*os.File) error {
		made = id(t)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if made == home {
		t.Fatal("the new namespace is the old one")
	}
	want := errors.New("x")
	err = Do(ns, func() error {
		if got := id(t); got != made {
			t.Errorf("Do ran in %s, want %s", got, made)
		}
		return want
	})
	if err != want {
		t.Error(err)
	}
	if ns, err := New(func(*os.File) error { return want }); ns != nil || err != want {
		t.Errorf("New of what fails = %v, %v", ns, err)
	}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			Do(ns, func() error { return nil })
			if got := id(t); got != home {
				t.Errorf("a thread stayed in %s", got)
			}
		})
	}
	wg.Wait()
}

func TestNotANamespace(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Do(f, func() error { t.Error("ran"); return nil }); err == nil {
		t.Error("no error")
	}
}
