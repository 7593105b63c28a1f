package content

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lade/internal/digest"
	"lade/internal/errdefs"
)

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func writer(t testing.TB, s *Store, key string, want digest.Digest, size int64) *Writer {
	t.Helper()
	w, err := s.Writer(t.Context(), key, want, size)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// kind checks what sort of failure err is.
func kind(t testing.TB, err error, want errdefs.Kind) {
	t.Helper()
	if err == nil || errdefs.KindOf(err) != want {
		t.Errorf("%v, want %v", err, want)
	}
}

func put(t testing.TB, w *Writer, s string) {
	t.Helper()
	if n, err := w.Write([]byte(s)); n != len(s) || err != nil {
		t.Fatal(n, err)
	}
}

func read(t testing.TB, s *Store, d digest.Digest) string {
	t.Helper()
	f, size, err := s.Reader(d)
	ok(t, err)
	defer f.Close()
	b, err := io.ReadAll(f)
	ok(t, err)
	if int64(len(b)) != size {
		t.Errorf("%d bytes, want %d", len(b), size)
	}
	return string(b)
}

func blobs(t testing.TB, s *Store) int {
	t.Helper()
	n := 0
	for _, err := range s.Walk() {
		ok(t, err)
		n++
	}
	return n
}

func TestBlob(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	want := digest.FromBytes([]byte("hello"))
	_, _, err := s.Reader(want)
	kind(t, err, errdefs.NotFound)
	_, err = s.Stat(want)
	kind(t, err, errdefs.NotFound)
	kind(t, s.Delete(want), errdefs.NotFound)

	for range 2 { // the second time it is there
		d, err := s.WriteBlob(t.Context(), []byte("hello"))
		if d != want || err != nil {
			t.Fatal(d, err)
		}
	}
	s = open(t, dir)
	if got := read(t, s, want); got != "hello" {
		t.Errorf("%q", got)
	}
	if n, err := s.Stat(want); n != 5 || err != nil {
		t.Error(n, err)
	}
	for i, err := range s.Walk() {
		if err != nil || i.Digest != want || i.Size != 5 || time.Since(i.Modified) > time.Hour {
			t.Error(i, err)
		}
	}
	ok(t, s.Verify(t.Context(), want))
	f, _, err := s.Reader(want)
	ok(t, err)
	defer f.Close()
	ok(t, s.Delete(want))
	if b, err := io.ReadAll(f); string(b) != "hello" {
		t.Error("an open reader lost its content", err)
	}
	if n := blobs(t, s); n != 0 {
		t.Errorf("%d blobs", n)
	}
	for _, bad := range []digest.Digest{"", "sha256:../../../etc/passwd", "sha256:00", digest.Digest("sha256:" + strings.Repeat("A", 64))} {
		_, _, err := s.Reader(bad)
		kind(t, err, errdefs.Invalid)
		kind(t, s.Delete(bad), errdefs.Invalid)
		_, err = s.Stat(bad)
		kind(t, err, errdefs.Invalid)
	}
}

// TestResume continues an ingest, also in a new process.
func TestResume(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	want := digest.FromBytes([]byte("hello, world"))
	w := writer(t, s, "layer/"+want.String(), want, 12)
	put(t, w, "hello")
	_, err := s.Writer(t.Context(), "layer/"+want.String(), want, 12)
	kind(t, err, errdefs.Conflict)
	ok(t, w.Close())
	ok(t, w.Close())
	_, err = w.Write([]byte("x"))
	kind(t, err, errdefs.Conflict)
	_, err = w.Commit(t.Context())
	kind(t, err, errdefs.Conflict)

	s = open(t, dir)
	in, err := s.Ingests()
	if err != nil || len(in) != 1 || in[0].Key != "layer/"+want.String() || in[0].Offset != 5 || in[0].Active {
		t.Fatal(in, err)
	}
	w = writer(t, s, "layer/"+want.String(), want, 12)
	if w.Offset() != 5 {
		t.Fatalf("offset %d", w.Offset())
	}
	_, err = w.Commit(t.Context()) // too early: the ingest stays
	kind(t, err, errdefs.DataLoss)
	w = writer(t, s, "layer/"+want.String(), want, 12)
	put(t, w, ", world")
	if d, err := w.Commit(t.Context()); d != want || err != nil {
		t.Fatal(d, err)
	}
	if in, err := s.Ingests(); len(in) != 0 || err != nil {
		t.Error(in, err)
	}
	if got := read(t, s, want); got != "hello, world" {
		t.Errorf("%q", got)
	}
}

func TestMismatch(t *testing.T) {
	s := open(t, t.TempDir())
	want := digest.FromBytes([]byte("hello"))
	w := writer(t, s, "k", want, 5)
	_, err := w.Write([]byte("hello!"))
	kind(t, err, errdefs.DataLoss)
	put(t, w, "HELLO")
	_, err = w.Commit(t.Context())
	kind(t, err, errdefs.DataLoss)
	if in, _ := s.Ingests(); len(in) != 0 || blobs(t, s) != 0 {
		t.Errorf("a wrong blob leaves %v", in)
	}
	// A tail that a crash corrupted is found, and the next try begins anew.
	ok(t, os.WriteFile(filepath.Join(s.parts, "k.part"), []byte("hel\x00"), 0o600))
	w = writer(t, s, "k", want, 5)
	put(t, w, "o")
	_, err = w.Commit(t.Context())
	kind(t, err, errdefs.DataLoss)
	w = writer(t, s, "k", want, 5)
	if w.Offset() != 0 {
		t.Errorf("offset %d", w.Offset())
	}
	ok(t, w.Abort())
	// A part that is too long cannot become the blob.
	ok(t, os.WriteFile(filepath.Join(s.parts, "k.part"), []byte("hello and more"), 0o600))
	w = writer(t, s, "k", want, 5)
	put(t, w, "hello")
	if d, err := w.Commit(t.Context()); d != want || err != nil {
		t.Error(d, err)
	}
	// Nothing known: whatever comes is right.
	w = writer(t, s, "unknown", "", -1)
	put(t, w, "anything")
	if d, err := w.Commit(t.Context()); d != digest.FromBytes([]byte("anything")) || err != nil {
		t.Error(d, err)
	}
	for _, key := range []string{"", strings.Repeat("k", 201), strings.Repeat("/", 100)} {
		_, err := s.Writer(t.Context(), key, "", -1)
		kind(t, err, errdefs.Invalid)
	}
	for _, key := range []string{".", "..", "a/../b", "%2f"} { // legal, and never a path
		w := writer(t, s, key, "", -1)
		put(t, w, key)
		_, err := w.Commit(t.Context())
		ok(t, err)
	}
	_, err = s.Writer(t.Context(), "k", "md5:1", -1)
	kind(t, err, errdefs.NotImplemented)
}

func TestVerify(t *testing.T) {
	s := open(t, t.TempDir())
	d, err := s.WriteBlob(t.Context(), []byte("hello"))
	ok(t, err)
	p, err := s.path(d)
	ok(t, err)
	ok(t, os.WriteFile(p, []byte("hellO"), 0o600))
	kind(t, s.Verify(t.Context(), d), errdefs.DataLoss)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	kind(t, s.Verify(ctx, d), errdefs.Canceled)
	_, err = s.Writer(ctx, "k", "", -1)
	kind(t, err, errdefs.Canceled)
	w := writer(t, s, "k", "", -1) // the key is free
	ok(t, w.Abort())
}

func TestRemoveIngests(t *testing.T) {
	s := open(t, t.TempDir())
	for _, k := range []string{"old", "active", "new"} {
		w := writer(t, s, k, "", -1)
		put(t, w, "12345")
		if k != "active" {
			ok(t, w.Close())
		}
		if k != "new" {
			old := time.Now().Add(-time.Hour)
			ok(t, os.Chtimes(filepath.Join(s.parts, k+suffix), old, old))
		}
	}
	freed, err := s.RemoveIngests(time.Now().Add(-time.Minute))
	if freed != 5 || err != nil {
		t.Error(freed, err)
	}
	in, err := s.Ingests()
	if err != nil || len(in) != 2 {
		t.Error(in, err)
	}
}

// TestConcurrent writes, reads and deletes at once.
func TestConcurrent(t *testing.T) {
	s := open(t, t.TempDir())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 20 {
				b := bytes.Repeat([]byte(fmt.Sprint(n)), 1000)
				d, err := s.WriteBlob(t.Context(), b)
				if err != nil {
					t.Error(err)
					return
				}
				if err := s.Verify(t.Context(), d); err != nil && errdefs.KindOf(err) != errdefs.NotFound {
					t.Error(err)
				}
				if i == 0 && n%3 == 0 {
					if err := s.Delete(d); err != nil && errdefs.KindOf(err) != errdefs.NotFound {
						t.Error(err)
					}
				}
				for _, err := range s.Walk() {
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if in, err := s.Ingests(); len(in) != 0 || err != nil {
		t.Error(in, err)
	}
}

func BenchmarkWriter(b *testing.B) {
	s := open(b, b.TempDir())
	chunk := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	b.SetBytes(16 << 20)
	for b.Loop() {
		w := writer(b, s, "k", "", -1)
		for range 256 {
			w.Write(chunk)
		}
		ok(b, w.Abort())
	}
}
