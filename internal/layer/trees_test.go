package layer

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	if c, err := TreeChanges(t.Context(), old, now); err != nil || len(c) > 0 {
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
		changes, err := TreeChanges(t.Context(), old, now)
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
	if err := TreeDiff(t.Context(), old, now, &b); err != nil {
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
	if c, err := TreeChanges(t.Context(), now, again); err != nil || len(c) > 0 {
		t.Errorf("the layer gives something else: %v, %v\n%s", c, err, names(t, b.Bytes()))
	}
	if !strings.Contains(names(t, b.Bytes()), "new/sub/o -> new/sub/n") {
		t.Errorf("no hard link:\n%s", names(t, b.Bytes()))
	}

	// What was made of nothing.
	b.Reset()
	if err := TreeDiff(t.Context(), "", old, &b); err != nil || !strings.Contains(names(t, b.Bytes()), "e/f/g") {
		t.Errorf("%v\n%s", err, names(t, b.Bytes()))
	}
	if err := os.WriteFile(now+"/.wh.x", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := TreeDiff(t.Context(), old, now, &b); errdefs.KindOf(err) != errdefs.Invalid {
		t.Errorf("a whiteout's name: %v", err)
	}
	if err := os.Chtimes(now+"/same/z", time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if got := show(); !strings.Contains(got, "C/same C/same/z") {
		t.Errorf("time of a file: %s", got)
	}
}
