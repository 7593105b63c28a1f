package layer

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/need"
)

// sample is a directory with a bit of everything.
func sample(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"a": "1", "b": "1", "d/x": "1", "d/y": "1", "e/f/g": "1", "same/z": "1", "todir": "1", "tofile/q": "1"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// pair opens two trees.
func pair(t *testing.T, old, now string) Trees { return Trees{openDir(t, old), openDir(t, now)} }

// TestTrees changes a copy of a tree, and makes the same of another copy by the
// layer.
func TestTrees(t *testing.T) {
	need.Root(t)
	old, now, again := sample(t), t.TempDir(), t.TempDir()
	clone := func(from, to string) {
		src, err := os.Open(from)
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		dst, err := os.Open(to)
		if err != nil {
			t.Fatal(err)
		}
		defer dst.Close()
		if err := CopyTree(t.Context(), src, dst); err != nil {
			t.Fatal(err)
		}
	}
	clone(old, now)
	clone(old, again)
	if c, err := pair(t, old, now).Changes(t.Context()); err != nil || len(c) > 0 {
		t.Fatalf("a copy: %v, %v", c, err)
	}
	for _, f := range []func() error{
		func() error { return os.WriteFile(now+"/a", []byte("changed"), 0o644) },
		func() error { return os.Remove(now + "/b") },
		func() error { return os.Remove(now + "/d/x") },
		func() error { return os.RemoveAll(now + "/e") },
		func() error { return os.MkdirAll(now+"/new/sub", 0o700) },
		func() error { return os.WriteFile(now+"/new/sub/n", []byte("n"), 0o600) },
		func() error { return os.Link(now+"/new/sub/n", now+"/new/sub/o") },
		func() error { return os.Remove(now + "/todir") },
		func() error { return os.Mkdir(now+"/todir", 0o755) },
		func() error { return os.WriteFile(now+"/todir/in", nil, 0o644) },
		func() error { return os.RemoveAll(now + "/tofile") },
		func() error { return os.Symlink("nowhere", now+"/tofile") },
	} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	show := func() string {
		changes, err := pair(t, old, now).Changes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, c := range changes {
			out = append(out, fmt.Sprintf("%c%s", "CAD"[c.Kind], c.Path))
		}
		return strings.Join(out, " ")
	}
	const want = "C/a D/b C/d D/d/x D/e A/new A/new/sub A/new/sub/n A/new/sub/o C/todir A/todir/in C/tofile"
	if got := show(); got != want {
		t.Errorf("changes\n %s, want\n %s", got, want)
	}
	var b bytes.Buffer
	if err := pair(t, old, now).Diff(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(again)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if _, err := Apply(t.Context(), again, bytes.NewReader(b.Bytes()), ApplyOptions{Whiteouts: Delete}); err != nil {
		t.Fatal(err)
	}
	if c, err := pair(t, now, again).Changes(t.Context()); err != nil || len(c) > 0 {
		t.Errorf("the layer gives something else: %v, %v\n%s", c, err, names(t, b.Bytes()))
	}
	if !strings.Contains(names(t, b.Bytes()), "new/sub/o -> new/sub/n") {
		t.Errorf("no hard link:\n%s", names(t, b.Bytes()))
	}

	// What was made of nothing.
	b.Reset()
	if err := (Trees{New: openDir(t, old)}).Diff(t.Context(), &b); err != nil || !strings.Contains(names(t, b.Bytes()), "e/f/g") {
		t.Errorf("%v\n%s", err, names(t, b.Bytes()))
	}
	if err := os.WriteFile(now+"/.wh.x", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := pair(t, old, now).Diff(t.Context(), &b); errdefs.KindOf(err) != errdefs.Invalid {
		t.Errorf("a whiteout's name: %v", err)
	}
	if err := os.Chtimes(now+"/same/z", time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if got := show(); !strings.Contains(got, "C/same C/same/z") {
		t.Errorf("time of a file: %s", got)
	}
}

// TestTreesExactly copies a tree, changes the copy in every way, and compares: the
// changes are all and no more, and the layer made of them turns a third copy
// into the second.
func TestTreesExactly(t *testing.T) {
	need.Root(t)
	base, now, third := t.TempDir(), t.TempDir(), t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(now, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	try := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	apply(t, base, tarOf(t, dir("d", 0o755), reg("d/deep", "1"), reg("d/same", "s"), dir("gone", 0o755), reg("gone/x", "x"),
		reg("content", "old"), reg("mode", "m"), reg("sly", "aaaa"), reg("attr", "a"), symlink("link", "content"),
		reg("tofile/x", "x"), reg("todir", "f"), dir("still", 0o755), reg("still/q", "q"), reg("two", "2"), hardlink("names", "two")), ApplyOptions{Whiteouts: Delete})
	try(CopyTree(t.Context(), openDir(t, base), openDir(t, now)))
	if c, err := (Trees{openDir(t, base), openDir(t, now)}).Changes(t.Context()); err != nil || len(c) != 0 {
		t.Fatalf("a copy differs: %v, %v", c, err)
	}
	when := func(name string) time.Time {
		fi, err := os.Lstat(filepath.Join(now, name))
		try(err)
		return fi.ModTime()
	}
	d := when("d")
	write("d/deep", "2")
	try(os.Chtimes(filepath.Join(now, "d"), d, d))
	try(os.RemoveAll(filepath.Join(now, "gone")))
	write("content", "newer")
	try(os.Chmod(filepath.Join(now, "mode"), 0o600))
	s := when("sly")
	write("sly", "bbbb") // same size, and the old time again
	try(os.Chtimes(filepath.Join(now, "sly"), s, s))
	try(unix.Setxattr(filepath.Join(now, "attr"), "user.k", []byte("v"), 0))
	try(os.Remove(filepath.Join(now, "link")))
	try(os.Symlink("mode", filepath.Join(now, "link")))
	try(os.RemoveAll(filepath.Join(now, "tofile")))
	write("tofile", "file")
	try(os.Remove(filepath.Join(now, "todir")))
	try(os.MkdirAll(filepath.Join(now, "todir/sub"), 0o700))
	write("todir/sub/f", strings.Repeat("f", 5000))
	try(os.Mkdir(filepath.Join(now, "new"), 0o711))
	write("new/f", "f")

	trees := Trees{openDir(t, base), openDir(t, now)}
	changes, err := trees.Changes(t.Context())
	try(err)
	var got []string
	for _, c := range changes {
		got = append(got, fmt.Sprintf("%c %s", "CAD"[c.Kind], c.Path))
	}
	want := "C /attr|C /content|C /d|C /d/deep|D /gone|C /link|C /mode|A /new|A /new/f|C /sly|C /todir|A /todir/sub|A /todir/sub/f|C /tofile"
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("changes:\n%s\nwant\n%s", s, want)
	}
	var one, two bytes.Buffer
	try(trees.Diff(t.Context(), &one))
	try(Trees{openDir(t, base), openDir(t, now)}.Diff(t.Context(), &two))
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("two layers of the same differ")
	}
	try(CopyTree(t.Context(), openDir(t, base), openDir(t, third)))
	apply(t, third, one.Bytes(), ApplyOptions{Whiteouts: Delete})
	expect(t, tree(t, third), tree(t, now))
	if n, err := trees.Usage(t.Context()); err != nil || n < 8192 || n > 64<<10 {
		t.Errorf("usage %d, %v", n, err)
	}
	write("new/.wh.x", "")
	if err := trees.Diff(t.Context(), &one); err == nil {
		t.Error("a file that means a deletion was packed")
	}
}
