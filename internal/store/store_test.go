package store

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// copyDir is what a power cut leaves: the files as they are now.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func check(t *testing.T, s *Store, want map[Bucket]map[string]string) {
	t.Helper()
	for b, kv := range want {
		got := map[string]string{}
		for k, v := range s.Walk(b) {
			got[k] = string(v)
			if g, ok := s.Get(b, k); !ok || string(g) != string(v) {
				t.Errorf("Get(%s, %s) = %q, %v; Walk has %q", b, k, g, ok, v)
			}
		}
		if !maps.Equal(got, kv) {
			t.Errorf("bucket %s: %d records, want %d", b, len(got), len(kv))
		}
	}
}

// TestModel applies random batches to the store and to maps, closes, kills and
// tears the store at random, and compares.
func TestModel(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			dir := t.TempDir()
			s := open(t, dir)
			model := map[Bucket]map[string]string{"a": {}, "b": {}}
			for range 150 {
				switch rnd.IntN(20) {
				case 0:
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					s = open(t, dir)
				case 1: // killed: the copy is opened while the old one is still there
					killed := copyDir(t, dir)
					s.Close()
					dir = killed
					s = open(t, dir)
				case 2: // torn: garbage where the next frame would stand
					s.mu.Lock()
					_, err := s.logs[s.active].WriteAt([]byte{200, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, s.offset)
					s.mu.Unlock()
					if err != nil {
						t.Fatal(err)
					}
					torn := copyDir(t, dir)
					s.Close()
					dir = torn
					s = open(t, dir)
				}
				var b Batch
				for range 1 + rnd.IntN(3) {
					bucket, key := []Bucket{"a", "b"}[rnd.IntN(2)], fmt.Sprint("k", rnd.IntN(50))
					if rnd.IntN(4) == 0 {
						b.Delete(bucket, key)
						delete(model[bucket], key)
						continue
					}
					v := make([]byte, rnd.IntN(64<<10))
					for i := range v {
						v[i] = byte(i)
					}
					b.Put(bucket, key, v)
					model[bucket][key] = string(v)
				}
				var err error
				if rnd.IntN(2) == 0 {
					err = s.Append(&b)
				} else {
					err = s.Commit(t.Context(), &b)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			check(t, s, model)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestConcurrentCommits(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.Close()
	want := map[Bucket]map[string]string{"c": {}}
	var wg sync.WaitGroup
	for g := range 8 {
		for i := range 40 {
			want["c"][fmt.Sprint(g, "-", i)] = fmt.Sprint(i)
		}
		wg.Go(func() {
			for i := range 40 {
				var b Batch
				b.Put("c", fmt.Sprint(g, "-", i), []byte(fmt.Sprint(i)))
				if err := s.Commit(t.Context(), &b); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	check(t, s, want)
}

func TestInUse(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	defer s.Close()
	if _, err := Open(dir, s.log); err == nil {
		t.Error("a store was opened twice")
	}
}

// TestPoisoned: after a failed write nothing is accepted, and reads go on.
func TestPoisoned(t *testing.T) {
	s := open(t, t.TempDir())
	var b Batch
	b.Put("a", "k", []byte("v"))
	if err := s.Commit(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	s.logs[s.active].Close()
	for range 2 {
		var b Batch
		b.Put("a", "k", []byte("w"))
		if err := s.Commit(t.Context(), &b); err == nil {
			t.Error("a write to a broken store succeeded")
		}
	}
	if v, ok := s.Get("a", "k"); !ok || string(v) != "v" {
		t.Errorf("Get = %q, %v", v, ok)
	}
	if s.Close() == nil {
		t.Error("Close hides the failure")
	}
}

func TestFrame(t *testing.T) {
	var b Batch
	b.Put("a", "k", nil)
	b.Delete("b", "x")
	ops, ok := decode(b.frame(7)[header:])
	if !ok || len(ops) != 2 || ops[0].value == nil || ops[1].value != nil {
		t.Errorf("decode = %v, %v", ops, ok)
	}
}

func FuzzScan(f *testing.F) {
	var b Batch
	b.Put("a", "k", []byte("v"))
	f.Add(slices.Concat(b.frame(1), b.frame(2)))
	f.Fuzz(func(t *testing.T, data []byte) {
		p := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(p, data, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := scan(file); err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkCommit(b *testing.B) {
	for _, durable := range []bool{true, false} {
		b.Run(fmt.Sprint("durable=", durable), func(b *testing.B) {
			s := open(b, b.TempDir())
			defer s.Close()
			value := make([]byte, 4<<10)
			for i := 0; b.Loop(); i++ {
				var batch Batch
				batch.Put("c", fmt.Sprint(i%1000), value)
				var err error
				if durable {
					err = s.Commit(b.Context(), &batch)
				} else {
					err = s.Append(&batch)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
