package snapshottest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sparse is the size of a file of the suite that is nearly all hole.
const sparse = 64 << 20

// kinds checks that what a layer has, of every kind, is seen on top of it as it
// was, and that changes to it stay above.
func (s suite) kinds(t *testing.T) {
	d, _ := s.driver(t)
	when := time.Unix(1234567890, 123456789)
	capability := []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00") // cap_net_bind_service=ep
	layer(t, d, "base", "", func(dir string) {
		at := func(name string) string { return filepath.Join(dir, name) }
		write(t, dir, "file", "content")
		ok(t, os.Link(at("file"), at("link")))
		ok(t, unix.Setxattr(at("file"), "user.key", []byte("value"), 0))
		write(t, dir, "program", "elf")
		ok(t, unix.Chmod(at("program"), 0o4755))
		ok(t, os.Chown(at("program"), 12, 34))
		ok(t, unix.Chmod(at("program"), 0o6751)) // chown takes the bits off
		ok(t, unix.Setxattr(at("program"), "security.capability", capability, 0))
		ok(t, os.Symlink("nowhere", at("symlink")))
		ok(t, unix.Mkfifo(at("fifo"), 0o640))
		ok(t, unix.Mknod(at("device"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
		write(t, dir, "hole", "")
		ok(t, os.Truncate(at("hole"), sparse))
		ok(t, os.Chtimes(at("file"), when, when))
	})
	layer(t, d, "middle", "base", nil)
	r, err := d.Prepare(t.Context(), "box", "middle")
	ok(t, err)
	box := mount(t, r)
	at := func(name string) string { return filepath.Join(box, name) }
	stat := func(name string) (st unix.Stat_t) {
		t.Helper()
		ok(t, unix.Lstat(at(name), &st))
		return st
	}
	value := func(name, key string) []byte {
		t.Helper()
		b := make([]byte, 256)
		n, err := unix.Lgetxattr(at(name), key, b)
		ok(t, err)
		return b[:n]
	}
	if a, b := stat("file"), stat("link"); a.Ino != b.Ino || a.Nlink != 2 || time.Unix(a.Mtim.Unix()) != when {
		t.Errorf("hard links: %+v, %+v", a, b)
	}
	if v := value("file", "user.key"); string(v) != "value" {
		t.Errorf("user.key: %q", v)
	}
	if st := stat("program"); st.Mode != unix.S_IFREG|0o6751 || st.Uid != 12 || st.Gid != 34 {
		t.Errorf("program: %o %d:%d", st.Mode, st.Uid, st.Gid)
	}
	// The kernel may show it with the root of the user namespace, version 3.
	if v := value("program", "security.capability"); !bytes.Equal(v[1:], capability[1:]) {
		t.Errorf("security.capability: %x", v)
	}
	if to, err := os.Readlink(at("symlink")); err != nil || to != "nowhere" {
		t.Errorf("symlink: %q, %v", to, err)
	}
	if st := stat("fifo"); st.Mode != unix.S_IFIFO|0o640 {
		t.Errorf("fifo: %o", st.Mode)
	}
	if st := stat("device"); st.Mode != unix.S_IFCHR|0o600 || st.Rdev != unix.Mkdev(1, 3) {
		t.Errorf("device: %o %x", st.Mode, st.Rdev)
	}
	if st := stat("hole"); st.Size != sparse || st.Blocks*512 > sparse/16 {
		t.Errorf("a file of %d bytes, a hole, takes %d", st.Size, st.Blocks*512)
	}

	ok(t, os.WriteFile(at("link"), []byte("changed"), 0o644))
	ok(t, unix.Setxattr(at("program"), "user.key", []byte("above"), 0))
	ok(t, os.Rename(at("fifo"), at("pipe")))
	base := view(t, d, "base")
	if b, err := os.ReadFile(filepath.Join(base, "link")); err != nil || string(b) != "content" {
		t.Errorf("below: %q, %v", b, err)
	}
	if _, err := unix.Lgetxattr(filepath.Join(base, "program"), "user.key", nil); err != unix.ENODATA {
		t.Errorf("an attribute went down: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(base, "fifo")); err != nil {
		t.Error(err)
	}
}
