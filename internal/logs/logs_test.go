package logs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var at = time.Date(2026, 1, 2, 3, 4, 5, 678900000, time.UTC)

func create(t testing.TB, o Options) *Writer {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(t.TempDir(), "c-json.log")
	}
	w, err := Create(o, Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func put(t testing.TB, w *Writer, s Stream, text string) {
	t.Helper()
	if err := w.Write(new(Buffer), at, s, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func content(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func collect(t testing.TB, path string, o ReadOptions) (lines []string) {
	t.Helper()
	for m, err := range Open(path, o) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(m.Line))
	}
	return lines
}

// TestFormat compares with what Docker 29's json-file driver writes.
func TestFormat(t *testing.T) {
	w := create(t, Options{Attrs: map[string]string{"b": "2", "a": "<1>"}})
	plain := create(t, Options{})
	put(t, w, Stdout, "hi\n")
	put(t, plain, Stderr, "a\tb \"q\" \\ <&> \x01\x7f \r é \u2028 \xff\xc3\n\n")
	if got, want := content(t, w.o.Path), `{"log":"hi\n","stream":"stdout","attrs":{"a":"\u003c1\u003e","b":"2"},"time":"2026-01-02T03:04:05.6789Z"}`+"\n"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	want := `{"log":"a\u0009b \"q\" \\ \u003c\u0026\u003e \u0001` + "\x7f" + ` \r é \u2028 \ufffd\ufffd\n","stream":"stderr","time":"2026-01-02T03:04:05.6789Z"}` + "\n" +
		`{"log":"\n","stream":"stderr","time":"2026-01-02T03:04:05.6789Z"}` + "\n"
	if got := content(t, plain.o.Path); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestEscapes compares with encoding/json, which escapes as Docker does but for
// \b, \t and \f: every character at every place of the groups that quote looks at.
func TestEscapes(t *testing.T) {
	chars := []string{"\xff", "\xe2\x80", "\u2028", "\u2029", "ß", "€", "😀", "\"\"", `\"`, "\x1f<", "a\n>"}
	for c := range byte(0x80) {
		if c != '\b' && c != '\t' && c != '\f' {
			chars = append(chars, string(rune(c)))
		}
	}
	for _, char := range chars {
		for before := range 34 {
			text := strings.Repeat("x", before) + char + "a plain line" + char
			want, err := json.Marshal(text)
			if err != nil {
				t.Fatal(err)
			}
			if got := `"` + string(appendEscaped(nil, []byte(text))) + `"`; got != string(want) {
				t.Errorf("%q is %s, not %s", text, got, want)
			}
		}
	}
}

func TestPartialLines(t *testing.T) {
	w := create(t, Options{})
	put(t, w, Stdout, "be")
	put(t, w, Stderr, "other\n")
	put(t, w, Stdout, "gin\xc3") // half of é
	next := create(t, w.o)
	next.Restore(w.Lines())
	w = next
	put(t, w, Stdout, "\xa9\n")
	put(t, w, Stdout, strings.Repeat("x", maxLine)+strings.Repeat("y", maxLine-1)+"\n")
	put(t, w, Stdout, strings.Repeat("z", maxLine))
	put(t, w, Stdout, "\nend")
	if err := w.End(new(Buffer), at, Stdout); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"other\n", "beginé\n", strings.Repeat("x", maxLine), strings.Repeat("y", maxLine-1) + "\n",
		strings.Repeat("z", maxLine), "\n", "end",
	}
	if got := collect(t, w.o.Path, ReadOptions{Tail: -1}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %.300q", got)
	}
}

// TestPartsShareTime checks that the parts of a long line carry the time of
// the first, as Docker's do.
func TestPartsShareTime(t *testing.T) {
	w := create(t, Options{})
	put(t, w, Stdout, strings.Repeat("x", maxLine))
	if err := w.Write(new(Buffer), at.Add(time.Hour), Stdout, []byte("end\nnext\n")); err != nil {
		t.Fatal(err)
	}
	var times []time.Time
	for m, err := range Open(w.o.Path, ReadOptions{Tail: -1}) {
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, m.Time)
	}
	if want := []time.Time{at, at, at.Add(time.Hour)}; !reflect.DeepEqual(times, want) {
		t.Errorf("times %v", times)
	}
}

func TestRotation(t *testing.T) {
	for _, files := range []int{0, 1, 2, 4} {
		t.Run(fmt.Sprint(files), func(t *testing.T) {
			w := create(t, Options{MaxSize: 200, MaxFile: files})
			var all []string
			for i := range 20 {
				all = append(all, fmt.Sprintf("line %d\n", i))
			}
			put(t, w, Stdout, strings.Join(all, ""))
			kept := max(files, 1)
			for i := range kept + 1 {
				_, err := os.Stat(rotated(w.o.Path, i))
				if (err == nil) != (i < kept) {
					t.Errorf("%s: %v", rotated(w.o.Path, i), err)
				}
			}
			// each line is 77 or 78 bytes: three fill a file
			want := all[20-20%3-3*(kept-1):]
			if got := collect(t, w.o.Path, ReadOptions{Tail: -1}); !reflect.DeepEqual(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestTail(t *testing.T) {
	w := create(t, Options{MaxSize: 80 << 10, MaxFile: 4})
	var all []string
	for i := range 3000 {
		all = append(all, fmt.Sprintf("%d %s\n", i, strings.Repeat("x", i%90)))
		put(t, w, Stdout, all[i])
	}
	total := len(collect(t, w.o.Path, ReadOptions{Tail: -1}))
	if total < 2000 || total == 3000 {
		t.Fatalf("%d messages are kept; the test needs rotated and lost ones", total)
	}
	for _, n := range []int{0, 1, 2, 500, 1500, total, total + 1, 100000} {
		got := collect(t, w.o.Path, ReadOptions{Tail: n})
		want := all[3000-min(n, total):]
		if len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("tail %d: %d messages, first %.1q", n, len(got), got)
		}
	}
}

func TestSinceUntil(t *testing.T) {
	w := create(t, Options{})
	for i := range 5 {
		if err := w.Write(new(Buffer), at.Add(time.Duration(i)*time.Second), Stdout, []byte{'0' + byte(i), '\n'}); err != nil {
			t.Fatal(err)
		}
	}
	got := collect(t, w.o.Path, ReadOptions{Tail: -1, Since: at.Add(time.Second), Until: at.Add(3 * time.Second)})
	if want := []string{"1\n", "2\n", "3\n"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
	got = collect(t, w.o.Path, ReadOptions{Tail: 2, Until: at.Add(3 * time.Second)})
	if want := []string{"3\n"}; !reflect.DeepEqual(got, want) {
		t.Errorf("tail comes first: got %q", got)
	}
}

func TestCorruptLines(t *testing.T) {
	w := create(t, Options{})
	put(t, w, Stdout, "one\n")
	f, err := os.OpenFile(w.o.Path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(f, "\x00\x00\x00\n{\"log\":\"cut\n%s\n{\"log\":\"x\",\"stream\":\"odd\",\"time\":\"2026-01-02T03:04:05Z\"}\n", strings.Repeat("L", 3*maxRecord))
	fmt.Fprintf(f, `{"time":"2026-01-02T03:04:05Z","log":"😀 \ud83d\ude00\n","stream":"stderr"}`+"\n") // another encoder's
	put(t, w, Stdout, "two\n")
	fmt.Fprint(f, `{"log":"not comple`)
	f.Close()
	if got, want := collect(t, w.o.Path, ReadOptions{Tail: -1}), []string{"one\n", "😀 😀\n", "two\n"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestNoLog(t *testing.T) {
	if got := collect(t, filepath.Join(t.TempDir(), "none"), ReadOptions{Tail: -1}); got != nil {
		t.Errorf("got %q", got)
	}
}

// TestFollow reads while the log is written, rotated fast and closed; nothing
// may be lost, doubled or out of order, and the sequence must end.
func TestFollow(t *testing.T) {
	for _, files := range []int{1, 5} {
		t.Run(fmt.Sprint(files), func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "c-json.log")
			done := make(chan struct{})
			const n = 4000
			read := make(chan int)
			go func() {
				w, err := Create(Options{Path: path, MaxSize: 40 << 10, MaxFile: files}, Hooks{})
				if err != nil {
					t.Error(err)
				}
				defer close(done)
				defer w.Close()
				var b Buffer
				seen := 0
				for i := range n {
					if err := w.Write(&b, at, Stdout, fmt.Appendf(nil, "%d\n", i)); err != nil {
						t.Error(err)
					}
					for i-seen > 400 { // slower than MaxFile files are rotated away
						seen = <-read
					}
				}
				go func() {
					for range read {
					}
				}()
			}()
			next := 0
			for m, err := range Open(path, ReadOptions{Tail: -1, Follow: true, Done: done}) {
				if err != nil {
					t.Fatal(err)
				}
				var got int
				fmt.Sscan(string(m.Line), &got)
				if got != next && (files > 1 || got < next) {
					t.Fatalf("message %d where %d was due", got, next)
				}
				next = got + 1
				if next%100 == 0 {
					read <- next
				}
			}
			if next != n {
				t.Errorf("read to %d of %d", next, n)
			}
			close(read)
		})
	}
}

func TestFollowCancel(t *testing.T) {
	w := create(t, Options{})
	put(t, w, Stdout, "one\n")
	cancel := make(chan struct{})
	n := 0
	for range Open(w.o.Path, ReadOptions{Tail: -1, Follow: true, Cancel: cancel}) {
		n++
		close(cancel)
	}
	if n != 1 {
		t.Errorf("%d messages", n)
	}
	for range Open(w.o.Path, ReadOptions{Tail: 0, Follow: true, Until: time.Now().Add(10 * time.Millisecond)}) {
		t.Error("a message after until")
	}
}

// TestFullDisk checks that a batch that did not fit leaves no half line.
func TestFullDisk(t *testing.T) {
	w := create(t, Options{})
	put(t, w, Stdout, "one\n")
	w.file.f.Close()
	if err := w.Write(new(Buffer), at, Stdout, []byte("lost\n")); err == nil {
		t.Error("no error")
	}
	w.file.f = nil // opened again by the next Write
	put(t, w, Stdout, "two\n")
	if err := w.file.cut(5); err != nil {
		t.Fatal(err)
	}
	put(t, w, Stdout, "\n")
	if got := collect(t, w.o.Path, ReadOptions{Tail: -1}); !reflect.DeepEqual(got, []string{"one\n"}) {
		t.Errorf("got %q", got)
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("hello\nworld"), 3, int64(0))
	f.Add([]byte("\"\\<>&\x00\x1f\xff\xe2\x80\xa8\xf0\x9f\x98\x80\n\n"), 1, int64(100))
	f.Add(bytes.Repeat([]byte("ab"), maxLine), 100, int64(0))
	path := filepath.Join(f.TempDir(), "log")
	f.Fuzz(func(t *testing.T, text []byte, chunk int, size int64) {
		os.Remove(path)
		w := create(t, Options{Path: path, MaxSize: max(size, 0), MaxFile: 1 << 20})
		defer func() {
			w.Close()
			for i := 0; ; i++ {
				if os.Remove(rotated(path, i)) != nil && i > 0 {
					break
				}
			}
		}()
		if chunk < 1 {
			chunk = 1
		}
		if size > 0 && len(text) > 200 {
			text = text[:200]
		}
		for p := text; len(p) > 0; {
			n := min(chunk, len(p))
			put(t, w, Stdout, string(p[:n]))
			p = p[n:]
		}
		if err := w.End(new(Buffer), at, Stdout); err != nil {
			t.Fatal(err)
		}
		var got []byte
		split := false
		for m, err := range Open(path, ReadOptions{Tail: -1}) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, m.Line...)
			split = split || len(m.Line) > 0 && m.Line[len(m.Line)-1] != '\n'
		}
		if want := strings.ToValidUTF8(string(text), ""); len(text) < maxLine {
			if strings.ReplaceAll(string(got), "\ufffd", "") != strings.ReplaceAll(want, "\ufffd", "") {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		for line := range strings.Lines(content(t, path)) {
			if !json.Valid([]byte(line)) {
				t.Errorf("not JSON: %q", line)
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"log":"a\u0009b\n","stream":"stderr","attrs":{"a":"b"},"time":"2026-01-02T03:04:05.6Z"}`))
	f.Add([]byte(`{"log":"\ud83d\ude00","stream":"stdout","time":"2026-01-02T03:04:05Z"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var d decoder
		m, ok := d.fast(line)
		if !ok {
			return
		}
		var want struct{ Log, Stream string }
		if err := json.Unmarshal(line, &want); err != nil {
			return // raw control characters, which we take
		}
		if strings.ToValidUTF8(string(m.Line), "\ufffd") != strings.ToValidUTF8(want.Log, "\ufffd") && !strings.Contains(want.Log, "\ufffd") || m.Stream.String() != want.Stream {
			t.Errorf("%q: got %q, want %q", line, m.Line, want.Log)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	for name, line := range map[string]string{
		"lines80":  strings.Repeat("a plain line of text", 4)[:79] + "\n",
		"json":     `{"level":"info","msg":"request served","path":"/v1/items","status":200,"ms":1.5}` + "\n",
		"utf8":     strings.Repeat("größe ", 13) + "\n",
		"long4000": strings.Repeat("x", 3999) + "\n",
	} {
		b.Run(name, func(b *testing.B) {
			w := create(b, Options{Path: "/dev/null"})
			data := []byte(strings.Repeat(line, 64<<10/len(line)))
			var buf Buffer
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if err := w.Write(&buf, at, Stdout, data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	w := create(b, Options{})
	put(b, w, Stdout, strings.Repeat(strings.Repeat("a plain line of text", 4)+"\n", 10000))
	b.SetBytes(w.file.size)
	for b.Loop() {
		for _, err := range Open(w.o.Path, ReadOptions{Tail: -1}) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
