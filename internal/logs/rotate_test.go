package logs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// deleted counts the files below dir that are removed and still open.
func deleted(t *testing.T, dir string) (n int) {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		to, err := os.Readlink(fd) // fails for the one that lists them
		if err == nil && strings.HasPrefix(to, dir) && strings.HasSuffix(to, " (deleted)") {
			n++
		}
	}
	return n
}

// TestDiscard checks that a rotation leaves the end of the file that it removes to
// the background, and that not more than two wait for it.
func TestDiscard(t *testing.T) {
	for _, files := range []int{1, 3} {
		var works []func()
		hooks := Hooks{Background: func(work, done func()) {
			works = append(works, func() { work(); done() })
		}}
		dir := t.TempDir()
		w, err := Create(Options{Path: filepath.Join(dir, "log"), MaxSize: 100, MaxFile: files}, hooks)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []int{0, 1, 2, 2, 2} {
			if i == 0 { // until every number is taken
				for range files - 1 {
					put(t, w, Stdout, strings.Repeat("x", 100)+"\n")
				}
			} else {
				put(t, w, Stdout, strings.Repeat("x", 100)+"\n")
			}
			if got := deleted(t, dir); got != want {
				t.Errorf("%d files, %d rotated out: %d are still open, not %d", files, i, got, want)
			}
		}
		for _, work := range works {
			work()
		}
		if got := deleted(t, dir); got != 0 || len(works) != maxEnds {
			t.Errorf("%d of %d are open in the end", got, len(works))
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPackLater checks that only what outlived packAfter is packed.
func TestPackLater(t *testing.T) {
	var later []func()
	packs := 0
	hooks := Hooks{
		After: func(d time.Duration, f func()) {
			if d != packAfter {
				t.Errorf("after %s", d)
			}
			later = append(later, f)
		},
		Background: func(work, done func()) {
			packs++
			work()
			done()
		},
	}
	path := filepath.Join(t.TempDir(), "log")
	w, err := Create(Options{Path: path, MaxSize: 100, MaxFile: 3, Compress: true}, hooks)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		put(t, w, Stdout, fmt.Sprintf("%d%s\n", i, strings.Repeat("x", 100)))
	}
	ends := packs
	for _, f := range later {
		f()
	}
	if len(later) != 7 || packs-ends != 2 {
		t.Errorf("of %d rotated files %d were packed", len(later), packs-ends)
	}
	for i, packed := range []bool{false, true, true} {
		if got := !present(rotated(path, i)); got != packed {
			t.Errorf("file %d is packed: %v", i, got)
		}
	}
	if got := collect(t, path, ReadOptions{Tail: -1}); len(got) != 2 || got[0][0] != '5' || got[1][0] != '6' {
		t.Errorf("read %.10q", got)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
