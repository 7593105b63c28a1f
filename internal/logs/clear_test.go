package logs

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestClear clears a log of several files under a reader that follows it.
func TestClear(t *testing.T) {
	for _, form := range []Format{FormatJSON, FormatLocal} {
		t.Run("format "+string(form), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			w, err := Create(Options{Path: path, Format: form, MaxSize: 1 << 10, MaxFile: 9, Compress: true}, Hooks{})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			done, ready := make(chan struct{}), make(chan struct{})
			followed := make(chan []string)
			go func() {
				var got []string
				for m, err := range Open(path, ReadOptions{Format: form, Tail: 1, Follow: true, Done: done}) {
					if err != nil {
						t.Error(err)
					}
					if got = append(got, string(m.Line)); len(got) == 1 {
						close(ready)
					}
				}
				followed <- got
			}()
			put(t, w, Stdout, strings.Repeat("what will be gone\n", 100))
			put(t, w, Stdout, "the begin of a line")
			<-ready
			if err := w.Clear(); err != nil {
				t.Fatal(err)
			}
			if left, err := filepath.Glob(path + ".*"); err != nil || len(left) > 0 {
				t.Errorf("left: %q, %v", left, err)
			}
			if got := collect(t, path, ReadOptions{Format: form, Tail: -1}); len(got) > 0 {
				t.Errorf("read back %q", got)
			}
			put(t, w, Stdout, " goes on\nnew\n")
			want := []string{"the begin of a line goes on\n", "new\n"}
			if got := collect(t, path, ReadOptions{Format: form, Tail: -1}); !reflect.DeepEqual(got, want) {
				t.Errorf("read back %q", got)
			}
			close(done)
			if got := <-followed; len(got) < 2 || !reflect.DeepEqual(got[len(got)-2:], want) {
				t.Errorf("followed %q", got)
			}
			if err := Remove(path); err != nil {
				t.Error(err)
			}
			if left, err := filepath.Glob(path + "*"); err != nil || len(left) > 0 {
				t.Errorf("left: %q, %v", left, err)
			}
		})
	}
}

func TestNumber(t *testing.T) {
	for name, want := range map[string]int{
		"log": 0, "log.1": 1, "log.12.gz": 12, "log.0": 0, "log.-1": 0, "log.01": 0, "log.1.tmp": 0, "log.gz": 0, "other.1": 0, "log.x": 0,
	} {
		if got := number(name, "log"); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
}
