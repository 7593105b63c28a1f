package logs

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

// TestClockSet reads logs by time of a machine whose clock was an hour ahead for a
// while: every message is found by its own time, also in a packed file, whose
// last message is not its latest.
func TestClockSet(t *testing.T) {
	begin := time.Now().Add(-2 * time.Hour).Truncate(time.Second)
	times := []struct {
		line  string
		after time.Duration
	}{{"before", 0}, {"ahead", time.Hour}, {"far ahead", 365 * 24 * time.Hour}, {"set back", time.Minute}, {"later", 2 * time.Minute}}
	for _, compress := range []bool{false, true} {
		o := Options{Path: filepath.Join(t.TempDir(), "log"), MaxFile: 3, Compress: compress}
		w := create(t, o)
		for _, m := range times {
			if err := w.Write(&Buffer{}, begin.Add(m.after), Stdout, []byte(m.line+"\n")); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.file.rotate(); err != nil {
			t.Fatal(err)
		}
		if present(rotated(o.Path, 1)) == compress {
			t.Fatalf("packed: %v", !compress)
		}
		if err := w.Write(&Buffer{}, begin.Add(3*time.Minute), Stdout, []byte("last\n")); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			what         string
			since, until time.Duration
			want         []string
		}{
			{"until after the setting", 0, 2 * time.Minute, []string{"before\n", "set back\n", "later\n"}},
			{"since while it was ahead", 30 * time.Minute, 0, []string{"ahead\n", "far ahead\n"}},
			{"since after the setting", 2 * time.Minute, 0, []string{"ahead\n", "far ahead\n", "later\n", "last\n"}},
			{"both", time.Minute, 3 * time.Minute, []string{"set back\n", "later\n", "last\n"}},
		} {
			ro := ReadOptions{Tail: -1, Since: begin.Add(c.since)}
			if c.until != 0 {
				ro.Until = begin.Add(c.until)
			}
			if got := collect(t, o.Path, ro); !reflect.DeepEqual(got, c.want) {
				t.Errorf("compress %v, %s: %q, want %q", compress, c.what, got, c.want)
			}
			if c.until == 0 {
				continue
			}
			// One that follows ends where it would have ended, as Until has passed.
			ro.Follow = true
			if got := collect(t, o.Path, ro); !reflect.DeepEqual(got, c.want) {
				t.Errorf("compress %v, %s, followed: %q, want %q", compress, c.what, got, c.want)
			}
		}
	}
}

// TestPackLeft goes on with the log of a writer that was killed before it had
// packed what it rotated, and in the middle of that.
func TestPackLeft(t *testing.T) {
	o := Options{Path: filepath.Join(t.TempDir(), "log"), MaxFile: 4, Compress: true}
	never := Hooks{After: func(time.Duration, func()) {}}
	w, err := Create(o, never)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"one\n", "two\n", "three\n"}
	for i, line := range want {
		if i > 0 {
			if err := w.file.rotate(); err != nil {
				t.Fatal(err)
			}
		}
		put(t, w, Stdout, line)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	begun := o.Path + ".12345" + unfinished
	other := o.Path + "-of-another.1" + unfinished
	for _, name := range []string{begun, other} {
		if err := os.WriteFile(name, []byte("\x1f\x8b cut off"), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	var later []func()
	w, err = Create(o, Hooks{After: func(d time.Duration, f func()) {
		if d != packAfter {
			t.Errorf("after %s", d)
		}
		later = append(later, f)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if len(later) != 1 {
		t.Fatalf("%d works are for later", len(later))
	}
	later[0]()
	for n := 1; n < len(want); n++ {
		if present(rotated(o.Path, n)) || !present(rotated(o.Path, n)+packed) {
			t.Errorf("file %d is not packed", n)
		}
	}
	if present(begun) || !present(other) {
		t.Errorf("what was begun is there: %v; another's file: %v", present(begun), present(other))
	}
	if got := collect(t, o.Path, ReadOptions{Tail: -1}); !reflect.DeepEqual(got, want) {
		t.Errorf("read %q", got)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	// A log that was never rotated has nothing for later.
	w, err = Create(Options{Path: filepath.Join(t.TempDir(), "log"), MaxFile: 4, Compress: true}, Hooks{After: func(time.Duration, func()) { t.Error("there is something for later") }})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
