package unpack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"lade/internal/errdefs"
)

type entry struct {
	name, link, body string
	kind             byte
}

func archive(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		if err := w.WriteHeader(&tar.Header{Name: e.name, Linkname: e.link, Typeflag: e.kind, Mode: 0o640, Size: int64(len(e.body))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func into(t *testing.T, dir string, b []byte) error {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	return Tar(t.Context(), bytes.NewReader(b), root)
}

// TestTar: what is in a tar, compressed or not, is in the directory; later entries
// take the place of earlier ones.
func TestTar(t *testing.T) {
	b := archive(t, entry{name: "./a/b", body: "old"}, entry{name: "a/b", body: "new"}, entry{name: "l", link: "/etc/passwd", kind: tar.TypeSymlink},
		entry{name: "h", link: "a/b", kind: tar.TypeLink}, entry{name: "p", kind: tar.TypeFifo}, entry{name: "d/", kind: tar.TypeDir})
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{b, z.Bytes()} {
		dir := t.TempDir()
		if err := into(t, dir, b); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"a/b", "h"} {
			if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != "new" {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
		if to, err := os.Readlink(filepath.Join(dir, "l")); err != nil || to != "/etc/passwd" {
			t.Errorf("link: %q, %v", to, err)
		}
		if _, err := os.Lstat(filepath.Join(dir, "p")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("FIFO: %v", err)
		}
	}
}

// TestTarLies: nothing is written outside of the directory, whatever the names and
// links of a tar say.
func TestTarLies(t *testing.T) {
	for name, entries := range map[string][]entry{
		"link to a directory outside": {{name: "out", link: "..", kind: tar.TypeSymlink}, {name: "out/evil", body: "x"}},
		"absolute link":               {{name: "out", link: "/tmp", kind: tar.TypeSymlink}, {name: "out/lade-evil", body: "x"}},
		"hard link through a link":    {{name: "out", link: "..", kind: tar.TypeSymlink}, {name: "h", link: "out/beside", kind: tar.TypeLink}},
	} {
		top := t.TempDir()
		dir := filepath.Join(top, "context")
		if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(top, "beside"), []byte("mine"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := into(t, dir, archive(t, entries...)); errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("%s: %v", name, err)
		}
		if all, err := os.ReadDir(top); err != nil || len(all) != 2 {
			t.Errorf("%s: %v, %v", name, all, err)
		}
	}
	// ".." leads nowhere.
	top := t.TempDir()
	dir := filepath.Join(top, "context")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := into(t, dir, archive(t, entry{name: "../../evil", body: "x"})); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "evil")); err != nil {
		t.Error(err)
	}
	if err := into(t, t.TempDir(), []byte("no tar at all, but long enough to be looked at as one"+string(make([]byte, 512)))); errdefs.KindOf(err) != errdefs.Invalid {
		t.Errorf("garbage: %v", err)
	}
}
