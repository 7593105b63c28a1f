package container

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lade/internal/cli/app"
)

// tree makes files: a name ending in "/" is a directory, "a->b" a link.
func tree(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, n := range names {
		p := filepath.Join(dir, n)
		var err error
		link, to, isLink := strings.Cut(p, "->")
		switch {
		case strings.HasSuffix(n, "/"):
			err = os.MkdirAll(p, 0o755)
		case isLink:
			err = os.Symlink(to, link)
		default:
			if err = os.MkdirAll(filepath.Dir(p), 0o755); err == nil {
				err = os.WriteFile(p, []byte("content of "+filepath.Base(n)), 0o640)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func listing(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, p)
		if rel != "." {
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func packed(t *testing.T, b []byte) (names []string) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

// TestPack shows what the engine is sent for each form of source and
// destination.
func TestPack(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "src/sub/x", "src/y", "file", "src/l->y")
	c := &copying{env: app.New(nil, io.Discard, io.Discard)}
	for _, k := range []struct {
		src  string
		dst  place
		into string
		want []string
		err  string
	}{
		{src: "file", dst: place{path: "/tmp", exists: true, dir: true}, into: "/tmp", want: []string{"file"}},
		{src: "file", dst: place{path: "/tmp/new"}, into: "/tmp", want: []string{"new"}},
		{src: "file", dst: place{path: "/tmp/old", exists: true}, into: "/tmp", want: []string{"old"}},
		{src: "file", dst: place{path: "/tmp/none/"}, err: "no such directory"},
		{src: "src", dst: place{path: "/tmp", exists: true, dir: true}, into: "/tmp", want: []string{"src/", "src/l", "src/sub/", "src/sub/x", "src/y"}},
		{src: "src", dst: place{path: "/tmp/new"}, into: "/tmp", want: []string{"new/", "new/l", "new/sub/", "new/sub/x", "new/y"}},
		{src: "src/.", dst: place{path: "/tmp", exists: true, dir: true}, into: "/tmp", want: []string{"./", "./l", "./sub/", "./sub/x", "./y"}},
		{src: "src/.", dst: place{path: "/tmp/new"}, into: "/tmp", want: []string{"new/", "new/l", "new/sub/", "new/sub/x", "new/y"}},
		{src: "src", dst: place{path: "/tmp/old", exists: true}, err: "cannot copy directory"},
		{src: "src/l", dst: place{path: "/tmp", exists: true, dir: true}, into: "/tmp", want: []string{"l"}},
	} {
		t.Run(k.src+" to "+k.dst.path, func(t *testing.T) {
			p, err := c.local(dir + "/" + k.src)
			if err != nil {
				t.Fatal(err)
			}
			into, old, renamed, err := target(p, k.dst)
			if k.err != "" {
				if err == nil || err.Error() != k.err {
					t.Errorf("%v, want %s", err, k.err)
				}
				return
			}
			if err != nil || into != k.into {
				t.Fatal(into, err)
			}
			var b bytes.Buffer
			if err := pack(&b, p, old, renamed); err != nil {
				t.Fatal(err)
			}
			if got := packed(t, b.Bytes()); !slices.Equal(got, k.want) {
				t.Errorf("%q, want %q", got, k.want)
			}
		})
	}
}

// TestExtract unpacks what the engine sends for each form of destination.
func TestExtract(t *testing.T) {
	src := t.TempDir()
	tree(t, src, "d/x", "d/sub/y", "d/l->/etc/passwd", "f")
	c := &copying{env: app.New(nil, io.Discard, io.Discard)}
	for _, k := range []struct {
		src, dst string
		before   []string
		want     []string
		err      string
	}{
		{src: "f", dst: "out", want: []string{"out"}},
		{src: "f", dst: "out", before: []string{"out/"}, want: []string{"out", "out/f"}},
		{src: "f", dst: "out", before: []string{"out"}, want: []string{"out"}},
		{src: "f", dst: "none/", err: "no such directory"},
		{src: "d", dst: "out", want: []string{"out", "out/l", "out/sub", "out/sub/y", "out/x"}},
		{src: "d", dst: "out", before: []string{"out/"}, want: []string{"out", "out/d", "out/d/l", "out/d/sub", "out/d/sub/y", "out/d/x"}},
		{src: "d/.", dst: "out", before: []string{"out/"}, want: []string{"out", "out/l", "out/sub", "out/sub/y", "out/x"}},
		{src: "d", dst: "out", before: []string{"out"}, err: "cannot copy directory"},
		{src: "f", dst: "out", before: []string{"out/f/"}, err: `cannot overwrite directory "f" with non-directory "."`},
	} {
		t.Run(k.src+" to "+k.dst, func(t *testing.T) {
			dir := t.TempDir()
			tree(t, dir, k.before...)
			p, err := c.local(src + "/" + k.src)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := pack(&b, p, "", ""); err != nil {
				t.Fatal(err)
			}
			_, err = c.extract(t.Context(), &b, p, dir+"/"+k.dst)
			if k.err != "" {
				if err == nil || err.Error() != k.err {
					t.Errorf("%v, want %s", err, k.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := listing(t, dir); !slices.Equal(got, k.want) {
				t.Errorf("%q, want %q", got, k.want)
			}
		})
	}
}

// TestExtractStaysInside unpacks archives that try to leave.
func TestExtractStaysInside(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "secret", "out/")
	for _, entries := range [][]*tar.Header{
		{{Name: "../secret", Typeflag: tar.TypeReg, Size: 3}},
		{{Name: "a/../../secret", Typeflag: tar.TypeReg, Size: 3}},
		{{Name: "l", Typeflag: tar.TypeSymlink, Linkname: ".."}, {Name: "l/secret", Typeflag: tar.TypeReg, Size: 3}},
		{{Name: "l", Typeflag: tar.TypeSymlink, Linkname: dir}, {Name: "l/secret", Typeflag: tar.TypeReg, Size: 3}},
		{{Name: "h", Typeflag: tar.TypeLink, Linkname: "../secret"}, {Name: "h", Typeflag: tar.TypeReg, Size: 3}},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range entries {
			h.Mode = 0o644
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte("bad")[:h.Size]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		c := &copying{env: app.New(nil, io.Discard, io.Discard)}
		_, err := c.extract(t.Context(), &b, place{path: "/x", exists: true, dir: true}, dir+"/out")
		if err == nil {
			t.Errorf("%s was taken", entries[len(entries)-1].Name)
		}
		if got, _ := os.ReadFile(dir + "/secret"); string(got) != "content of secret" {
			t.Fatalf("%s left the directory", entries[len(entries)-1].Name)
		}
		if err := os.RemoveAll(dir + "/out"); err != nil {
			t.Fatal(err)
		}
		tree(t, dir, "out/")
	}
}
