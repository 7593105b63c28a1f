package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/need"
)

// at is a time with nanoseconds.
var at = time.Unix(1700000000, 123456789)

// file is an entry of a stream; body is the content of a regular file.
type file struct {
	tar.Header
	body string
}

// tarOf builds a stream of entries.
func tarOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := f.Header
		h.Size = int64(len(f.body))
		if h.ModTime.IsZero() {
			h.ModTime = at
		}
		h.Format = tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func dir(name string, mode int64) file {
	return file{Header: tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}}
}

func reg(name, body string) file {
	return file{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, body}
}

func symlink(name, target string) file {
	return file{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}

func hardlink(name, target string) file {
	return file{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}}
}

// tree describes a directory, one line an entry, sorted.
func tree(t testing.TB, root string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		if rel == "." {
			return nil
		}
		i, err := d.Info()
		if err != nil {
			return err
		}
		st := i.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%s %v", rel, i.Mode())
		if st.Uid != 0 || st.Gid != 0 {
			line += fmt.Sprintf(" %d:%d", st.Uid, st.Gid)
		}
		switch {
		case i.Mode().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", b)
			if st.Nlink > 1 {
				line += fmt.Sprintf(" nlink=%d", st.Nlink)
			}
		case i.Mode()&fs.ModeSymlink != 0:
			l, _ := os.Readlink(p)
			line += " -> " + l
		case i.Mode()&fs.ModeDevice != 0:
			line += fmt.Sprintf(" %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		case i.IsDir():
			b := make([]byte, 16)
			if n, err := unix.Lgetxattr(p, "trusted.overlay.opaque", b); err == nil {
				line += " opaque=" + string(b[:n])
			}
			if n, err := unix.Lgetxattr(p, "user.overlay.opaque", b); err == nil {
				line += " opaque=" + string(b[:n])
			}
		}
		out = append(out, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, "\n")
}

func expect(t *testing.T, got, want string) {
	t.Helper()
	want = strings.ReplaceAll(strings.TrimSpace(want), "\t", "")
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// over is the directories of the layers below.
func over(dirs ...string) func() ([]string, error) {
	return func() ([]string, error) { return dirs, nil }
}

func apply(t testing.TB, dir string, b []byte, o ApplyOptions) Result {
	t.Helper()
	r, err := Apply(t.Context(), dir, bytes.NewReader(b), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestApply(t *testing.T) {
	need.Root(t)
	d := t.TempDir()
	suid := reg("bin/su", "x")
	suid.Mode, suid.Uid, suid.Gid = 0o4755, 1000, 1001
	suid.PAXRecords = map[string]string{
		paxXattr + "security.capability":    "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		paxXattr + "user.a":                 "b",
		paxXattr + "trusted.overlay.opaque": "y",
	}
	setgid := dir("var/mail", 0o2775)
	setgid.Gid = 8
	sticky := dir("tmp", 0o1777)
	link := symlink("bin/sh", "su")
	link.Uid = 7
	dev := file{Header: tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Mode: 0o666, Devmajor: 1, Devminor: 3}}
	blk := file{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "dev/big", Mode: 0o660, Devmajor: 259, Devminor: 300, Gid: 6}}
	fifo := file{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "dev/pipe", Mode: 0o622}}
	long := strings.Repeat("l", 200)
	r := apply(t, d, tarOf(t,
		dir(".", 0o755), dir("bin", 0o555), suid, link, dir("var", 0o755), setgid, reg("var/mail/a", "1"), sticky,
		hardlink("bin/sudo", "./bin/su"), dev, blk, fifo, reg("a/"+long+"/"+long, "long"), reg("/abs", "x"), reg("p/../q", "y"),
	), ApplyOptions{})
	expect(t, tree(t, d), `
		a drwxr-xr-x
		a/`+long+` drwxr-xr-x
		a/`+long+`/`+long+` -rw-r--r-- "long"
		abs -rw-r--r-- "x"
		bin dr-xr-xr-x
		bin/sh Lrwxrwxrwx 7:0 -> su
		bin/su -rw-r--r-- "x" nlink=2
		bin/sudo -rw-r--r-- "x" nlink=2
		dev drwxr-xr-x
		dev/big Drw-rw---- 0:6 259:300
		dev/null Dcrw-rw-rw- 1:3
		dev/pipe prw--w--w-
		q -rw-r--r-- "y"
		tmp dtrwxrwxrwx
		var drwxr-xr-x
		var/mail dgrwxrwxr-x 0:8
		var/mail/a -rw-r--r-- "1"
	`)
	if r.Size != 1+1+4+1+1 || r.Files != 15 {
		t.Errorf("%+v", r)
	}
	for _, n := range []string{"bin", "bin/sh", "var", "var/mail", "var/mail/a", "dev/null", "."} {
		i, err := os.Lstat(filepath.Join(d, n))
		if err != nil {
			t.Fatal(err)
		}
		if !i.ModTime().Equal(at) {
			t.Errorf("%s: time %v, want %v", n, i.ModTime(), at)
		}
	}
	b := make([]byte, 64)
	if n, err := unix.Lgetxattr(filepath.Join(d, "bin/su"), "trusted.overlay.overlay.opaque", b); err != nil || string(b[:n]) != "y" {
		t.Errorf("overlay's attribute is not escaped: %v", err)
	}
}

// TestApplyCapability checks that a file keeps its set-user-ID bit and its
// capabilities, also when a hard link to it follows.
func TestApplyCapability(t *testing.T) {
	need.Root(t)
	d := t.TempDir()
	const v2 = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	ping := reg("ping", "x")
	ping.Mode, ping.Uid = 0o6755, 5
	ping.PAXRecords = map[string]string{paxXattr + "security.capability": v2}
	again := hardlink("ping6", "ping")
	again.Mode, again.Uid = 0o6755, 5
	apply(t, d, tarOf(t, ping, again), ApplyOptions{})
	expect(t, tree(t, d), `
		ping ugrwxr-xr-x 5:0 "x" nlink=2
		ping6 ugrwxr-xr-x 5:0 "x" nlink=2
	`)
	b := make([]byte, 64)
	if n, err := unix.Lgetxattr(filepath.Join(d, "ping"), "security.capability", b); err != nil || string(b[:n]) != v2 {
		t.Errorf("capability: %q, %v", b[:max(n, 0)], err)
	}
}

// TestApplyReplace unpacks entries over others of the same stream.
func TestApplyReplace(t *testing.T) {
	need.Root(t)
	d := t.TempDir()
	apply(t, d, tarOf(t,
		reg("f", "1"), reg("f", "2"),
		dir("d", 0o700), reg("d/x/y", "1"), reg("d", "now a file"),
		reg("g", "1"), dir("g", 0o711), reg("g/x", "2"),
		dir("m", 0o700), reg("m/keep", "1"), dir("m", 0o750),
		dir("real", 0o755), symlink("link", "real"), reg("link/through", "1"),
		symlink("abs", "/real"), reg("abs/too", "2"), symlink("up", "../../../../real"), reg("up/three", "3"),
		symlink("s", "nowhere"), reg("s", "replaces the link"),
	), ApplyOptions{})
	expect(t, tree(t, d), `
		abs Lrwxrwxrwx -> /real
		d -rw-r--r-- "now a file"
		f -rw-r--r-- "2"
		g drwx--x--x opaque=y
		g/x -rw-r--r-- "2"
		link Lrwxrwxrwx -> real
		m drwxr-x---
		m/keep -rw-r--r-- "1"
		real drwxr-xr-x
		real/three -rw-r--r-- "3"
		real/through -rw-r--r-- "1"
		real/too -rw-r--r-- "2"
		s -rw-r--r-- "replaces the link"
		up Lrwxrwxrwx -> ../../../../real
	`)
}

func TestApplyWhiteouts(t *testing.T) {
	need.Root(t)
	d := t.TempDir()
	stream := tarOf(t,
		reg("a/.wh.gone", ""), dir("o", 0o755), reg("o/.wh..wh..opq", ""), reg("o/new", "1"),
		reg(".wh.later", ""), dir("later", 0o700), reg("later/x", "1"),
		dir("before", 0o700), reg("before/x", "1"), reg(".wh.before", ""),
		reg(".wh.file", ""), reg("file", "stays"), reg("file2", "stays"), reg(".wh.file2", ""),
		reg(".wh.implied", ""), reg("implied/x", "1"),
		reg(".wh..wh.aufs", ""), reg(".wh..wh.plnk/12.3", "x"),
	)
	apply(t, d, stream, ApplyOptions{})
	expect(t, tree(t, d), `
		a drwxr-xr-x
		a/gone Dc--------- 0:0
		before drwx------ opaque=y
		before/x -rw-r--r-- "1"
		file -rw-r--r-- "stays"
		file2 -rw-r--r-- "stays"
		implied drwxr-xr-x opaque=y
		implied/x -rw-r--r-- "1"
		later drwx------ opaque=y
		later/x -rw-r--r-- "1"
		o drwxr-xr-x opaque=y
		o/new -rw-r--r-- "1"
	`)

	full := t.TempDir()
	apply(t, full, tarOf(t,
		dir("a", 0o711), reg("a/gone", "1"), reg("a/stays", "1"), reg("o/old/x", "1"), reg("later/old", "1"), reg("before/old", "1"),
		reg("file", "old"), reg("implied/old", "1"), reg("untouched", "1"),
	), ApplyOptions{Whiteouts: Delete})
	apply(t, full, stream, ApplyOptions{Whiteouts: Delete})
	expect(t, tree(t, full), `
		a drwx--x--x
		a/stays -rw-r--r-- "1"
		before drwx------
		before/x -rw-r--r-- "1"
		file -rw-r--r-- "stays"
		file2 -rw-r--r-- "stays"
		implied drwxr-xr-x
		implied/x -rw-r--r-- "1"
		later drwx------
		later/x -rw-r--r-- "1"
		o drwxr-xr-x
		o/new -rw-r--r-- "1"
		untouched -rw-r--r-- "1"
	`)
}

// TestApplyLower checks what a layer gets that does not mention its directories.
func TestApplyLower(t *testing.T) {
	need.Root(t)
	bottom, middle, top := t.TempDir(), t.TempDir(), t.TempDir()
	home := dir("home/me", 0o2750)
	home.Uid, home.Gid = 1000, 100
	home.PAXRecords = map[string]string{paxXattr + "user.tag": "v"}
	apply(t, bottom, tarOf(t, dir("usr/lib", 0o711), symlink("lib", "usr/lib"), symlink("abs", "/usr"), home,
		dir("gone", 0o700), dir("hid/den", 0o700)), ApplyOptions{})
	apply(t, middle, tarOf(t, reg(".wh.gone", ""), reg("hid/.wh..wh..opq", "")), ApplyOptions{Lower: over(bottom)})
	apply(t, top, tarOf(t, reg("lib/x.so", "1"), reg("abs/lib/y.so", "2"), reg("home/me/f", "3"), reg("gone/f", "4"), reg("hid/den/f", "5")),
		ApplyOptions{Lower: over(middle, bottom)})
	expect(t, tree(t, top), `
		gone drwxr-xr-x
		gone/f -rw-r--r-- "4"
		hid drwxr-xr-x
		hid/den drwxr-xr-x
		hid/den/f -rw-r--r-- "5"
		home drwxr-xr-x
		home/me dgrwxr-x--- 1000:100
		home/me/f -rw-r--r-- "3"
		usr drwxr-xr-x
		usr/lib drwx--x--x
		usr/lib/x.so -rw-r--r-- "1"
		usr/lib/y.so -rw-r--r-- "2"
	`)
	if i, _ := os.Stat(filepath.Join(top, "home/me")); !i.ModTime().Equal(at) {
		t.Errorf("home/me: time %v", i.ModTime())
	}
	b := make([]byte, 9)
	if n, err := unix.Getxattr(filepath.Join(top, "home/me"), "user.tag", b); err != nil || string(b[:n]) != "v" {
		t.Errorf("home/me: %v", err)
	}
}

func TestApplyHostile(t *testing.T) {
	need.Root(t)
	good := tarOf(t, dir("d", 0o755), reg("d/f", strings.Repeat("x", 5000)))
	dev := file{Header: tar.Header{Typeflag: tar.TypeChar, Name: "d", Devmajor: 1 << 20, Devminor: 3}}
	for name, tc := range map[string]struct {
		stream []byte
		want   errdefs.Kind
	}{
		"dot dot":            {tarOf(t, reg("../escaped", "x")), errdefs.Invalid},
		"dot dot inside":     {tarOf(t, reg("a/../../escaped", "x")), errdefs.Invalid},
		"dot dot dir":        {tarOf(t, dir("..", 0o777)), errdefs.Invalid},
		"link to outside":    {tarOf(t, hardlink("l", "../outside")), errdefs.Invalid},
		"link to absolute":   {tarOf(t, hardlink("l", "/etc/passwd")), errdefs.Invalid},
		"link by symlink":    {tarOf(t, symlink("s", "/etc"), hardlink("l", "s/passwd")), errdefs.Invalid},
		"link to directory":  {tarOf(t, dir("d", 0o755), hardlink("l", "d")), errdefs.Invalid},
		"link to itself":     {tarOf(t, reg("l", "x"), hardlink("l", "l")), errdefs.Invalid},
		"link over target":   {tarOf(t, reg("d/f", "x"), hardlink("d", "d/f")), errdefs.Invalid},
		"link to nothing":    {tarOf(t, hardlink("l", "missing")), errdefs.Invalid},
		"whiteout of parent": {tarOf(t, reg("a/.wh...", "")), errdefs.Invalid},
		"whiteout of self":   {tarOf(t, reg("a/.wh..", "")), errdefs.Invalid},
		"whiteout of none":   {tarOf(t, reg("a/.wh.", "")), errdefs.Invalid},
		"below a whiteout":   {tarOf(t, reg("a/.wh.x/y", "x")), errdefs.Invalid},
		"file as parent":     {tarOf(t, reg("a", "x"), reg("a/b", "x")), errdefs.Invalid},
		"link loop":          {tarOf(t, symlink("a", "b"), symlink("b", "a"), reg("a/x", "")), errdefs.Invalid},
		"top is a file":      {tarOf(t, symlink(".", "/etc")), errdefs.Invalid},
		"long component":     {tarOf(t, reg(strings.Repeat("n", 256), "x")), errdefs.Invalid},
		"long path":          {tarOf(t, reg(strings.Repeat("n/", 2100)+"x", "x")), errdefs.Invalid},
		"long parent":        {tarOf(t, reg(strings.Repeat("n", 256)+"/x", "x")), errdefs.Invalid},
		"device number":      {tarOf(t, dev), errdefs.Invalid},
		"truncated body":     {good[:3000], errdefs.DataLoss},
		"truncated header":   {good[:1100], errdefs.DataLoss},
		"not a tar":          {bytes.Repeat([]byte("garbage "), 200), errdefs.DataLoss},
	} {
		t.Run(name, func(t *testing.T) {
			outer := t.TempDir()
			d := filepath.Join(outer, "in")
			for _, p := range []string{d, filepath.Join(outer, "keep")} {
				if err := os.Mkdir(p, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(outer, "outside"), []byte("o"), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, w := range []Whiteouts{Overlay, Delete} {
				_, err := Apply(t.Context(), d, bytes.NewReader(tc.stream), ApplyOptions{Whiteouts: w})
				if errdefs.KindOf(err) != tc.want {
					t.Errorf("%v (%v), want %v", err, errdefs.KindOf(err), tc.want)
				}
			}
			if err := os.RemoveAll(d); err != nil {
				t.Fatal(err)
			}
			expect(t, tree(t, outer), "keep drwxr-xr-x\noutside -rw------- \"o\"")
		})
	}
}

// TestApplyInside checks that links which point outside are followed inside.
func TestApplyInside(t *testing.T) {
	need.Root(t)
	outer := t.TempDir()
	d := filepath.Join(outer, "in")
	if err := os.Mkdir(d, 0o755); err != nil {
		t.Fatal(err)
	}
	apply(t, d, tarOf(t, symlink("out", ".."), reg("out/f", "1"), symlink("root", "/"), reg("root/g/h", "2"),
		symlink("missing", "/a/../b"), reg("missing/x", "3"), symlink("magic", "/proc/self/root"), reg("magic/y", "4")), ApplyOptions{})
	expect(t, tree(t, outer), `
		in drwxr-xr-x
		in/a drwxr-xr-x
		in/b drwxr-xr-x
		in/b/x -rw-r--r-- "3"
		in/f -rw-r--r-- "1"
		in/g drwxr-xr-x
		in/g/h -rw-r--r-- "2"
		in/magic Lrwxrwxrwx -> /proc/self/root
		in/missing Lrwxrwxrwx -> /a/../b
		in/out Lrwxrwxrwx -> ..
		in/proc drwxr-xr-x
		in/proc/self drwxr-xr-x
		in/proc/self/root drwxr-xr-x
		in/proc/self/root/y -rw-r--r-- "4"
		in/root Lrwxrwxrwx -> /
	`)
}

func TestApplySource(t *testing.T) {
	broken := errors.New("connection reset")
	b := tarOf(t, reg("f", strings.Repeat("x", 5000)))
	r := io.MultiReader(bytes.NewReader(b[:2000]), failing{broken})
	if _, err := Apply(t.Context(), t.TempDir(), r, ApplyOptions{}); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Apply(ctx, t.TempDir(), bytes.NewReader(b), ApplyOptions{}); errdefs.KindOf(err) != errdefs.Canceled {
		t.Errorf("%v", err)
	}
	// What follows the end marker belongs to the digest of the stream.
	rest := strings.NewReader(string(b) + strings.Repeat("\x00", 10240))
	if _, err := Apply(t.Context(), t.TempDir(), rest, ApplyOptions{}); err != nil || rest.Len() != 0 {
		t.Errorf("%v, %d bytes not read", err, rest.Len())
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
