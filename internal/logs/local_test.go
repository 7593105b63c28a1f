package logs

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestLocal checks the bytes of Docker's format, and that everything comes
// back: lines, parts of long ones, bytes that are no text.
func TestLocal(t *testing.T) {
	w := create(t, Options{Format: FormatLocal})
	put(t, w, Stdout, "hi\n")
	raw, err := os.ReadFile(w.o.Path)
	if err != nil {
		t.Fatal(err)
	}
	want := "\x00\x00\x00\x16\x0a\x06stdout\x10" + string(appendVarint(nil, 0, uint64(at.UnixNano()))[1:]) + "\x1a\x02hi\x00\x00\x00\x16"
	if string(raw) != want {
		t.Errorf("%q, want %q", raw, want)
	}
	long := strings.Repeat("\x00\xffx", 10_000)
	put(t, w, Stderr, long+"\n\n")
	put(t, w, Stdout, "no newline")
	if err := w.End(&Buffer{}, at, Stdout); err != nil {
		t.Fatal(err)
	}
	var got []string
	var parts []Part
	for m, err := range Open(w.o.Path, ReadOptions{Format: FormatLocal, Tail: -1}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m.Stream.String()+" "+string(m.Line))
		parts = append(parts, Part{Ordinal: m.Part.Ordinal, Last: m.Part.Last})
		if !m.Time.Equal(at) {
			t.Errorf("time %s", m.Time)
		}
	}
	if want := []string{"stdout hi\n", "stderr " + long[:maxLine], "stderr " + long[maxLine:] + "\n", "stderr \n", "stdout no newline"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%.40q, want %.40q", got, want)
	}
	if want := []Part{{}, {Ordinal: 1}, {Ordinal: 2, Last: true}, {}, {Ordinal: 1}}; !reflect.DeepEqual(parts, want) {
		t.Errorf("parts %v", parts)
	}
}

// TestLocalMend checks that a file that a crash cut off is written on after its
// last whole message.
func TestLocalMend(t *testing.T) {
	for _, torn := range []string{"\x00", "\x00\x00\x00\x16\x0a\x06std", "\x00\x00\x00\x02\x0a", "\xff\xff\xff\xff garbage"} {
		w := create(t, Options{Format: FormatLocal})
		put(t, w, Stdout, "one\ntwo\n")
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(w.o.Path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(torn); err != nil {
			t.Fatal(err)
		}
		f.Close()
		w = create(t, Options{Format: FormatLocal, Path: w.o.Path})
		put(t, w, Stdout, "three\n")
		for tail, want := range map[int]int{-1: 3, 2: 2} {
			if got := collect(t, w.o.Path, ReadOptions{Format: FormatLocal, Tail: tail}); len(got) != want || got[want-1] != "three\n" {
				t.Errorf("after %q: tail %d: %q", torn, tail, got)
			}
		}
	}
}

// TestCompress checks that rotated files are packed, and that everything that
// can be read of plain ones is read of packed ones: all, the tail, from a time
// on, and by a reader that follows meanwhile.
func TestCompress(t *testing.T) {
	for _, form := range []Format{FormatJSON, FormatLocal} {
		t.Run("format "+string(form), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			// The work is done late, as far as it may be: after the next rotation.
			var pending []func()
			background := func(work, done func()) {
				pending = append(pending, func() { work(); done() })
				if len(pending) > 1 {
					pending[0]()
					pending = pending[1:]
				}
			}
			w, err := Create(Options{Path: path, Format: form, MaxSize: 8 << 10, MaxFile: 50, Compress: true}, Hooks{Background: background})
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			followed := make(chan []string)
			go func() {
				var got []string
				for m, err := range Open(path, ReadOptions{Format: form, Tail: -1, Follow: true, Done: done}) {
					if err != nil {
						t.Error(err)
					}
					got = append(got, string(m.Line))
				}
				followed <- got
			}()
			var want []string
			var b Buffer
			for i := range 2000 {
				line := fmt.Sprintf("line %d of many\n", i)
				want = append(want, line)
				if err := w.Write(&b, at.Add(time.Duration(i)*time.Second), Stdout, []byte(line)); err != nil {
					t.Fatal(err)
				}
			}
			pending[0]()
			close(done)
			if got := <-followed; !reflect.DeepEqual(got, want) {
				t.Errorf("followed %d lines of %d", len(got), len(want))
			}
			if plain, err := filepath.Glob(path + ".*[0-9]"); err != nil || len(plain) != 0 {
				t.Errorf("not packed: %q, %v", plain, err)
			}
			if left, err := filepath.Glob(path + ".*.tmp"); err != nil || len(left) != 0 {
				t.Errorf("left behind: %q, %v", left, err)
			}
			read := func(o ReadOptions) []string { o.Format = form; return collect(t, path, o) }
			if got := read(ReadOptions{Tail: -1}); !reflect.DeepEqual(got, want) {
				t.Errorf("%d lines of %d", len(got), len(want))
			}
			for _, n := range []int{1, 100, 777, 1999, 3000} {
				if got := read(ReadOptions{Tail: n}); !reflect.DeepEqual(got, want[max(0, len(want)-n):]) {
					t.Errorf("tail %d: %d lines", n, len(got))
				}
			}
			if got := read(ReadOptions{Tail: -1, Since: at.Add(1000 * time.Second), Until: at.Add(1499 * time.Second)}); !reflect.DeepEqual(got, want[1000:1500]) {
				t.Errorf("since, until: %d lines", len(got))
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestSink checks what a remote target is given of a log that nobody keeps.
func TestSink(t *testing.T) {
	var got []string
	w, err := Create(Options{}, Hooks{Sink: func(m Message) {
		got = append(got, fmt.Sprintf("%s %d %v %d", m.Stream, m.Part.Ordinal, m.Part.Last, len(m.Line)))
	}})
	if err != nil {
		t.Fatal(err)
	}
	put(t, w, Stderr, "a\n"+strings.Repeat("b", maxLine+10)+"\nc")
	put(t, w, Stderr, "\n")
	if want := []string{"stderr 0 false 2", "stderr 1 false 16384", "stderr 2 true 11", "stderr 0 false 2"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
}

func FuzzLocal(f *testing.F) {
	var b Buffer
	localEncoder{}.append(&b, &Message{Stream: Stdout, Time: at, Line: []byte("x"), Part: Part{ID: "i", Ordinal: 1}})
	f.Add(b.out)
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		w := create(t, Options{Format: FormatLocal, Path: path})
		put(t, w, Stdout, "end\n")
		if got := collect(t, path, ReadOptions{Format: FormatLocal, Tail: 1}); len(got) != 1 || got[0] != "end\n" {
			t.Errorf("%q", got)
		}
	})
}
