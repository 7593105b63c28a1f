package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/xattr"
	"lade/internal/need"
)

// names lists a stream: one line an entry.
func names(t testing.TB, stream []byte) string {
	t.Helper()
	var out []string
	tr := tar.NewReader(bytes.NewReader(stream))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return strings.Join(out, "\n")
		}
		if err != nil {
			t.Fatal(err)
		}
		line := string(h.Typeflag) + " " + h.Name
		if h.Linkname != "" {
			line += " -> " + h.Linkname
		}
		if h.Typeflag == tar.TypeReg && h.Size > 0 {
			b, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			line += " " + strconv.Quote(string(b))
		}
		out = append(out, line)
	}
}

// everything is a stream with everything that a layer can hold.
func everything(t testing.TB) []byte {
	bin := reg("bin/ping", "elf")
	bin.Mode, bin.Uid, bin.Gid = 0o4755, 3, 4
	bin.PAXRecords = map[string]string{
		paxXattr + "security.capability":    "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		paxXattr + "user.k":                 "v\nwith=signs",
		paxXattr + "trusted.overlay.opaque": "y",
	}
	d := dir("bin", 0o2711)
	d.Uid = 9
	d.PAXRecords = map[string]string{paxXattr + "user.dir": "1"}
	again := hardlink("bin/ping6", "bin/ping")
	again.Mode, again.Uid, again.Gid = bin.Mode, bin.Uid, bin.Gid
	ln := symlink("bin/sh", "/bin/ping")
	ln.Uid = 12
	return tarOf(t, d, bin, again, ln,
		dir("dev", 0o755), file{Header: tar.Header{Typeflag: tar.TypeChar, Name: "dev/tty", Mode: 0o620, Devmajor: 5, Devminor: 700, Gid: 5}},
		file{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "dev/vda", Mode: 0o660, Devmajor: 254}},
		file{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "dev/initctl", Mode: 0o600}},
		dir("o", 0o755), reg("o/.wh..wh..opq", ""), reg("o/.wh.x", ""), reg("o/y", "y"),
		reg(strings.Repeat("long/", 60)+"end", "l"), reg(".wh.gone", ""), reg("empty", ""), reg("ümläut \n", "u"))
}

// TestDiffApply makes a stream of an unpacked stream: it must unpack to the
// same again.
func TestDiffApply(t *testing.T) {
	need.Root(t)
	one, two := t.TempDir(), t.TempDir()
	apply(t, one, everything(t), ApplyOptions{})
	var first, second bytes.Buffer
	if err := Diff(t.Context(), DiffOptions{Upper: one}, &first); err != nil {
		t.Fatal(err)
	}
	apply(t, two, first.Bytes(), ApplyOptions{})
	expect(t, tree(t, two), tree(t, one))
	for _, d := range []string{one, two} {
		if fi, err := os.Lstat(filepath.Join(d, "gone")); err != nil || fi.ModTime().Unix() != at.Unix() {
			t.Errorf("the whiteout has not the time of the stream: %v, %v", fi.ModTime(), err)
		}
	}
	if err := Diff(t.Context(), DiffOptions{Upper: two}, &second); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Errorf("the streams differ:\n%s\n\n%s", names(t, first.Bytes()), names(t, second.Bytes()))
	}
	if l := names(t, first.Bytes()); !strings.Contains(l, "1 bin/ping6 -> bin/ping\n") || !strings.Contains(l, "0 o/.wh..wh..opq\n0 o/.wh.x\n0 o/y") {
		t.Errorf("stream:\n%s", l)
	}
	b := make([]byte, 9)
	if n, err := unix.Lgetxattr(filepath.Join(two, "bin/ping"), "trusted.overlay.overlay.opaque", b); err != nil || string(b[:n]) != "y" {
		t.Errorf("an escaped attribute is lost: %v", err)
	}
}

// TestDiffRedirect refuses what cannot be a layer of its own.
func TestDiffRedirect(t *testing.T) {
	need.Root(t)
	d := t.TempDir()
	if err := os.Mkdir(filepath.Join(d, "moved"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(filepath.Join(d, "moved"), "trusted.overlay.redirect", []byte("/old"), 0); err != nil {
		t.Fatal(err)
	}
	if err := Diff(t.Context(), DiffOptions{Upper: d}, io.Discard); errdefs.KindOf(err) != errdefs.NotImplemented {
		t.Errorf("%v", err)
	}
}

// TestDiffName refuses a name that would delete another file in the image.
func TestDiffName(t *testing.T) {
	d := t.TempDir()
	if err := os.WriteFile(filepath.Join(d, ".wh.etc"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Diff(t.Context(), DiffOptions{Upper: d}, io.Discard); errdefs.KindOf(err) != errdefs.Invalid {
		t.Errorf("%v", err)
	}
}

// overlay mounts layers and returns a path of the result; nothing is attached.
func overlay(t testing.TB, upper, work string, lower ...string) string {
	t.Helper()
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fs)
	set := func(k, v string) {
		if err := unix.FsconfigSetString(fs, k, v); err != nil {
			t.Fatal(k, v, err)
		}
	}
	set("lowerdir", strings.Join(lower, ":"))
	if upper != "" {
		set("upperdir", upper)
		set("workdir", work)
		if err := unix.FsconfigSetFlag(fs, "volatile"); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "overlay")
	t.Cleanup(func() { f.Close() })
	return "/proc/self/fd/" + strconv.Itoa(fd) + "/"
}

// short makes directories with short paths below one temporary one.
func short(t testing.TB, names ...string) []string {
	t.Helper()
	top, err := os.MkdirTemp("", "l")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	var out []string
	for _, n := range names {
		p := filepath.Join(top, n)
		if err := os.Mkdir(p, 0o755); err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// TestOverlay lets the kernel judge the whiteouts, opaque directories and
// escaped attributes of Apply, and packs what a container changes.
func TestOverlay(t *testing.T) {
	need.Root(t)
	d := short(t, "1", "2", "u", "w", "f")
	apply(t, d[0], tarOf(t, dir("d", 0o755), reg("d/a", "1"), reg("d/b", "1"), dir("o", 0o755), reg("o/old", "1"), reg("f", "1")), ApplyOptions{})
	esc := dir("x", 0o755)
	esc.PAXRecords = map[string]string{paxXattr + "trusted.overlay.opaque": "y"}
	apply(t, d[1], tarOf(t, reg("d/.wh.a", ""), reg("d/c", "2"), reg(".wh.f", ""), reg("o/.wh..wh..opq", ""), reg("o/new", "2"), esc),
		ApplyOptions{Lower: over(d[:1]...)})
	m := overlay(t, d[2], d[3], d[1], d[0])
	expect(t, tree(t, m), `
		d drwxr-xr-x
		d/b -rw-r--r-- "1"
		d/c -rw-r--r-- "2"
		o drwxr-xr-x
		o/new -rw-r--r-- "2"
		x drwxr-xr-x opaque=y
	`)
	// Now the container.
	for _, err := range []error{
		os.RemoveAll(m + "o"), os.Mkdir(m+"o", 0o700), os.WriteFile(m+"o/third", []byte("3"), 0o644), os.Remove(m + "d/b"),
		os.WriteFile(m+"f", []byte("3"), 0o644), os.Link(m+"f", m+"g"), os.Symlink("f", m+"s"), os.Chmod(m+"x", 0o711),
		os.WriteFile(m+"d/c", []byte("3"), 0o644), os.MkdirAll(m+"new/deep", 0o755), os.WriteFile(m+"passing", nil, 0o644), os.Remove(m + "passing"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	changes, err := Changes(t.Context(), d[2], []string{d[1], d[0]}, false)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range changes {
		got = append(got, string("CAD"[c.Kind])+" "+c.Path)
	}
	expect(t, strings.Join(got, "\n"), `
		C /d
		D /d/b
		C /d/c
		A /f
		A /g
		A /new
		A /new/deep
		C /o
		D /o/new
		A /o/third
		A /s
		C /x
	`)
	var b bytes.Buffer
	if err := Diff(t.Context(), DiffOptions{Upper: d[2]}, &b); err != nil {
		t.Fatal(err)
	}
	// The layer on a full copy must give what the container sees.
	for _, low := range d[:2] {
		var layer bytes.Buffer
		if err := Diff(t.Context(), DiffOptions{Upper: low}, &layer); err != nil {
			t.Fatal(err)
		}
		apply(t, d[4], layer.Bytes(), ApplyOptions{Whiteouts: Delete})
	}
	apply(t, d[4], b.Bytes(), ApplyOptions{Whiteouts: Delete})
	expect(t, tree(t, d[4]), tree(t, m))
}

// TestUserns unpacks and mounts in a user namespace.
func TestUserns(t *testing.T) {
	if !need.Userns(t) {
		return
	}
	d := short(t, "1", "2")
	apply(t, d[0], tarOf(t, dir("d", 0o755), reg("d/a", "1"), reg("o/x", "1"), reg("f", "1")), ApplyOptions{Whiteouts: OverlayUser})
	dev := file{Header: tar.Header{Typeflag: tar.TypeChar, Name: "null", Mode: 0o666, Devmajor: 1, Devminor: 3}}
	r := apply(t, d[1], tarOf(t, reg("d/.wh.a", ""), reg("o/.wh..wh..opq", ""), dev), ApplyOptions{Whiteouts: OverlayUser, Lower: over(d[:1]...)})
	if r.Skipped != 1 {
		t.Errorf("%d skipped, want the device", r.Skipped)
	}
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fs)
	for _, err := range []error{unix.FsconfigSetString(fs, "lowerdir", d[1]+":"+d[0]), unix.FsconfigSetFlag(fs, "userxattr"), unix.FsconfigCreate(fs)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	expect(t, tree(t, "/proc/self/fd/"+strconv.Itoa(fd)+"/"), `
		d drwxr-xr-x
		f -rw-r--r-- "1"
		o drwxr-xr-x
	`)
}

func openDir(t testing.TB, p string) *os.File {
	t.Helper()
	f, err := os.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// rootfs is a small root file system for `cp`.
func rootfs(t testing.TB) *os.File {
	t.Helper()
	d := t.TempDir()
	apply(t, d, tarOf(t, dir("usr/bin", 0o755), reg("usr/bin/sh", "sh"), symlink("bin", "usr/bin"), symlink("abs", "/usr"), dir("etc", 0o750),
		reg("etc/passwd", "root"), symlink("etc/link", "../etc/passwd"), symlink("dangling", "no/where"), symlink("out", "../../../.."),
		symlink("loop", "loop")), ApplyOptions{})
	return openDir(t, d)
}

func TestStat(t *testing.T) {
	need.Root(t)
	root := rootfs(t)
	for _, tc := range []struct {
		path, name, target string
		mode               fs.FileMode
	}{
		{"/", "/", "", fs.ModeDir}, {"", "/", "", fs.ModeDir}, {"/.", ".", "", fs.ModeDir}, {"./", ".", "", fs.ModeDir},
		{"/etc", "etc", "", fs.ModeDir | 0o750}, {"etc/", "etc", "", fs.ModeDir | 0o750}, {"/etc/.", ".", "", fs.ModeDir | 0o750},
		{"/bin", "bin", "/usr/bin", fs.ModeSymlink | 0o777}, {"/bin/", "bin", "", fs.ModeDir | 0o755}, {"bin/sh", "sh", "", 0o644},
		{"/abs/bin/sh", "sh", "", 0o644}, {"/etc/../../../etc/passwd", "passwd", "", 0o644}, {"/etc/link", "link", "/etc/passwd", fs.ModeSymlink | 0o777},
		{"/dangling", "dangling", "/no/where", fs.ModeSymlink | 0o777}, {"/out", "out", "/", fs.ModeSymlink | 0o777}, {"/out/etc", "etc", "", fs.ModeDir | 0o750},
	} {
		got, err := Stat(root, tc.path)
		if err != nil {
			t.Errorf("%s: %v", tc.path, err)
			continue
		}
		if got.Name != tc.name || got.LinkTarget != tc.target || got.Mode.Type() != tc.mode.Type() || tc.mode.Perm() != 0 && got.Mode != tc.mode {
			t.Errorf("%s: %+v, want %q %q %v", tc.path, got, tc.name, tc.target, tc.mode)
		}
	}
	for path, want := range map[string]errdefs.Kind{
		"/nope": errdefs.NotFound, "/etc/passwd/": errdefs.Invalid, "/etc/passwd/x": errdefs.Invalid, "/dangling/x": errdefs.NotFound,
		"/loop/x": errdefs.Invalid, "/loop": errdefs.Invalid, "/" + strings.Repeat("n", 300): errdefs.Invalid,
	} {
		if _, err := Stat(root, path); errdefs.KindOf(err) != want {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}

func TestPack(t *testing.T) {
	need.Root(t)
	root := rootfs(t)
	for path, want := range map[string]string{
		"/etc/passwd":     `0 passwd "root"`,
		"/etc":            "5 etc/\n2 etc/link -> ../etc/passwd\n0 etc/passwd \"root\"",
		"/etc/.":          "5 ./\n2 ./link -> ../etc/passwd\n0 ./passwd \"root\"",
		"/bin":            "2 bin -> usr/bin",
		"/bin/":           "5 bin/\n0 bin/sh \"sh\"",
		"/abs/bin/":       "5 bin/\n0 bin/sh \"sh\"",
		"/out/etc/passwd": `0 passwd "root"`,
	} {
		var b bytes.Buffer
		if err := Pack(t.Context(), root, path, PackOptions{}, &b); err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if got := names(t, b.Bytes()); got != want {
			t.Errorf("%s:\n%s\nwant:\n%s", path, got, want)
		}
	}
	var b bytes.Buffer
	if err := Pack(t.Context(), root, "/", PackOptions{}, &b); err != nil || !strings.HasPrefix(names(t, b.Bytes()), "5 /\n2 /abs -> /usr\n") {
		t.Errorf("/: %v\n%s", err, names(t, b.Bytes()))
	}
	b.Reset()
	if err := Pack(t.Context(), root, "/", PackOptions{Contents: true}, &b); err != nil || !strings.HasPrefix(names(t, b.Bytes()), "2 abs -> /usr\n2 bin") {
		t.Errorf("contents: %v\n%s", err, names(t, b.Bytes()))
	}
	if err := Pack(t.Context(), root, "/nope", PackOptions{}, &b); errdefs.KindOf(err) != errdefs.NotFound {
		t.Errorf("%v", err)
	}
}

// TestPackMounts packs what has other file systems in it, and a process that has
// ended: its links are there, and lead nowhere.
func TestPackMounts(t *testing.T) {
	need.Root(t)
	zombie := exec.Command("true")
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	defer zombie.Wait()
	dir := fmt.Sprintf("/proc/%d", zombie.Process.Pid)
	need.Eventually(t, "a process that has ended", func() bool {
		stat, err := os.ReadFile(dir + "/stat")
		return err == nil && bytes.Contains(stat, []byte(") Z "))
	})
	top := openDir(t, "/")
	pack := func(path string, o PackOptions) string {
		var b bytes.Buffer
		if err := Pack(t.Context(), top, path, o, &b); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		return names(t, b.Bytes())
	}
	if got := pack(dir+"/exe", PackOptions{}); got != "" {
		t.Errorf("the program of a process that has ended:\n%s", got)
	}
	if got := pack(dir+"/ns", PackOptions{}); !strings.HasPrefix(got, "5 ns/") || strings.Contains(got, "ns/mnt") {
		t.Errorf("the namespaces of a process that has ended:\n%s", got)
	}
	bare := PackOptions{Bare: []string{"/nope", "/etc", "/proc"}}
	for _, path := range []string{"/proc", "/proc/"} {
		if got := pack(path, bare); got != "5 proc/" {
			t.Errorf("%s alone:\n%s", path, got)
		}
	}
	if got := pack(dir+"/status", bare); got != "0 status" {
		t.Errorf("a file in it:\n%s", got)
	}
	if got := pack("/etc", bare); !strings.Contains(got, "etc/passwd") {
		t.Errorf("nothing is mounted there:\n%s", got)
	}
}

func TestUnpack(t *testing.T) {
	need.Root(t)
	root := rootfs(t)
	mine := reg("sh", "new")
	mine.Uid, mine.Gid = 1000, 1000
	again := hardlink("sh2", "sh")
	again.Uid, again.Gid = 1000, 1000
	ctx := t.Context()
	if err := Unpack(ctx, root, "/bin", bytes.NewReader(tarOf(t, dir(".", 0o700), mine, reg(".wh.x", "kept"), again)), UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	got := tree(t, filepath.Join(root.Name(), "usr"))
	expect(t, got, `
		bin drwxr-xr-x
		bin/.wh.x -rw-r--r-- "kept"
		bin/sh -rw-r--r-- 1000:1000 "new" nlink=2
		bin/sh2 -rw-r--r-- 1000:1000 "new" nlink=2
	`)
	// Links of the container are followed inside it, also below the target.
	if err := Unpack(ctx, root, "out", bytes.NewReader(tarOf(t, reg("abs/new/f", "1"), reg("out/g", "2"))), UnpackOptions{Owner: &Owner{7, 8}}); err != nil {
		t.Fatal(err)
	}
	expect(t, tree(t, filepath.Join(root.Name(), "usr/new")), `f -rw-r--r-- 7:8 "1"`)
	if _, err := os.Stat(filepath.Join(root.Name(), "g")); err != nil {
		t.Error(err)
	}
	strict := UnpackOptions{NoOverwriteDirNonDir: true}
	for _, tc := range []struct {
		path   string
		stream []byte
		o      UnpackOptions
		want   errdefs.Kind
		text   string
	}{
		{"/nope", nil, UnpackOptions{}, errdefs.NotFound, "no such file"},
		{"/etc/passwd", nil, UnpackOptions{}, errdefs.Invalid, "extraction point is not a directory"},
		{"/etc/passwd/x", nil, UnpackOptions{}, errdefs.Invalid, "not a directory"},
		{"/usr", tarOf(t, reg("bin", "x")), strict, errdefs.Invalid, "cannot overwrite directory"},
		{"/etc", tarOf(t, dir("passwd", 0o755)), strict, errdefs.Invalid, "cannot overwrite non-directory"},
		{"/etc", tarOf(t, reg("../x", "")), UnpackOptions{}, errdefs.Invalid, "outside"},
		{"/etc", tarOf(t, hardlink("x", "../usr/bin/sh")), UnpackOptions{}, errdefs.Invalid, "outside"},
		{"/usr/new", tarOf(t, reg("y", strings.Repeat("y", 3000)))[:2000], UnpackOptions{}, errdefs.DataLoss, "truncated"},
	} {
		err := Unpack(ctx, root, tc.path, bytes.NewReader(tc.stream), tc.o)
		if errdefs.KindOf(err) != tc.want || err == nil || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v (%v), want %v", tc.path, err, errdefs.KindOf(err), tc.want)
		}
	}
	if err := Unpack(ctx, root, "/", bytes.NewReader(tarOf(t, dir("etc/passwd", 0o700), reg("usr", "x"))), UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	expect(t, tree(t, filepath.Join(root.Name(), "etc")), `
		link Lrwxrwxrwx -> ../etc/passwd
		passwd drwx------
	`)
}

func TestCopyTree(t *testing.T) {
	need.Root(t)
	src, dst := t.TempDir(), t.TempDir()
	apply(t, src, everything(t), ApplyOptions{})
	if err := unix.Mknod(filepath.Join(src, "sock"), unix.S_IFSOCK|0o640, 0); err != nil {
		t.Fatal(err)
	}
	holes, err := os.Create(filepath.Join(src, "holes"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holes.WriteAt([]byte("end"), 64<<20); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(holes.Truncate(128<<20), holes.Close(), os.Chmod(src, 0o750), os.Chown(src, 5, 6)); err != nil {
		t.Fatal(err)
	}
	if err := CopyTree(t.Context(), openDir(t, src), openDir(t, dst)); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dst, "holes"), &st); err != nil || st.Size != 128<<20 || st.Blocks*512 > 1<<20 {
		t.Errorf("holes: %d bytes, %d on disk, %v", st.Size, st.Blocks*512, err)
	}
	os.Remove(filepath.Join(src, "holes"))
	os.Remove(filepath.Join(dst, "holes"))
	expect(t, tree(t, dst), tree(t, src))
	if err := unix.Stat(dst, &st); err != nil || st.Uid != 5 || st.Gid != 6 || st.Mode&0o7777 != 0o750 {
		t.Errorf("top: %d:%d %o", st.Uid, st.Gid, st.Mode)
	}
	var a, b bytes.Buffer
	if err := errors.Join(Diff(t.Context(), DiffOptions{Upper: src}, &a), Diff(t.Context(), DiffOptions{Upper: dst}, &b)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("attributes or times differ")
	}
	if _, err := xattr.GetAt(int(openDir(t, dst).Fd()), "bin", "user.dir"); err != nil {
		t.Error(err)
	}
}
