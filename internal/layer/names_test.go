package layer

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"lade/internal/need"
)

// TestNames: names are bytes, whatever they mean to whom, and come back as they
// went.
func TestNames(t *testing.T) {
	need.Root(t)
	want := []string{"caf\xe9", "\xff\xfe", "a\nb", "\x01\x7f", "=", "a=b\n", " ", "-", "\u202ex", "\xed\xa0\x80"}
	src := t.TempDir()
	for _, n := range want {
		if err := os.Mkdir(filepath.Join(src, "d"+n), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(src, "d"+n, n), []byte(n), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(n, filepath.Join(src, "l"+n)); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(filepath.Join(src, "d"+n, n), filepath.Join(src, "h"+n)); err != nil {
			t.Fatal(err)
		}
	}
	var stream bytes.Buffer
	if err := Diff(t.Context(), DiffOptions{Upper: src}, &stream); err != nil {
		t.Fatal(err)
	}
	dst := t.TempDir()
	if _, err := Apply(t.Context(), dst, bytes.NewReader(stream.Bytes()), ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	expect(t, tree(t, dst), tree(t, src))
	for _, n := range want {
		if got, err := os.ReadFile(filepath.Join(dst, "d"+n, n)); err != nil || string(got) != n {
			t.Errorf("%q: %q, %v", n, got, err)
		}
		if got, err := os.Readlink(filepath.Join(dst, "l"+n)); err != nil || got != n {
			t.Errorf("link %q: %q, %v", n, got, err)
		}
	}
	// The same through cp.
	a, b := t.TempDir(), openDir(t, src)
	stream.Reset()
	if err := Pack(t.Context(), b, "/", PackOptions{Contents: true}, &stream); err != nil {
		t.Fatal(err)
	}
	if err := Unpack(t.Context(), openDir(t, a), "/", &stream, UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	expect(t, tree(t, a), tree(t, src))
}

// TestManyFiles: a hundred thousand files of one directory are unpacked, found to
// be changes, and packed.
func TestManyFiles(t *testing.T) {
	need.Root(t)
	t.Setenv("TMPDIR", "/dev/shm") // a disk would be what is measured
	const n = 100_000
	files := make([]file, n)
	for i := range files {
		files[i] = reg("d/"+strconv.Itoa(i), "")
	}
	dir := t.TempDir()
	raw := tarOf(t, files...)
	res, err := Apply(t.Context(), dir, bytes.NewReader(raw), ApplyOptions{})
	if err != nil || res.Files != n {
		t.Fatalf("%+v, %v", res, err)
	}
	changes, err := Changes(t.Context(), dir, []string{t.TempDir()}, false)
	if err != nil || len(changes) != n+1 || !slices.IsSortedFunc(changes, func(a, b Change) int { return compare(a.Path, b.Path) }) {
		t.Errorf("%d changes, %v", len(changes), err)
	}
}

func compare(a, b string) int {
	if a < b {
		return -1
	}
	return 1
}
