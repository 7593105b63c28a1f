package snapshottest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/linux/loop"
	"lade/internal/need"
)

// Disk is a file system of a test's own.
type Disk struct {
	Type    string   // as for mount(2)
	Mkfs    []string // the program that makes it, and arguments before the file
	From    string   // Debian's package of the program
	Options string   // for mount(2)
	Size    int64    // bytes
}

// Mount makes the file system in a file, in memory where that is possible, and
// returns where it is mounted until the test ends. Needs root.
func (d Disk) Mount(t testing.TB) string {
	t.Helper()
	dir, err := d.Try(t)
	ok(t, err)
	return dir
}

// Try is Mount for a file system that the kernel may lack; it returns why it
// cannot be mounted.
func (d Disk) Try(t testing.TB) (string, error) {
	t.Helper()
	need.Root(t)
	mkfs := need.Program(t, d.Mkfs[0], "Debian's "+d.From)
	f, err := os.CreateTemp(memory(), "lade-test-disk-")
	ok(t, err)
	t.Cleanup(func() { f.Close() })
	defer os.Remove(f.Name())
	ok(t, f.Truncate(d.Size))
	if out, err := exec.CommandContext(t.Context(), mkfs, append(d.Mkfs[1:], f.Name())...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", d.Mkfs, err, out)
	}
	device, err := loop.Attach(f)
	ok(t, err)
	defer device.Close()
	dir := filepath.Join(t.TempDir(), "disk")
	ok(t, os.Mkdir(dir, 0o755))
	if err := unix.Mount(device.Name(), dir, d.Type, 0, d.Options); err != nil {
		return "", err
	}
	t.Cleanup(func() { Unmount(t, dir) })
	return dir, nil
}

// Unmount unmounts a file system that nobody uses any more, and waits for who still
// ends: a process, or a file system in one of its files, which is as long as any
// namespace of the machine has a copy of its mount.
func Unmount(t testing.TB, dir string) {
	t.Helper()
	err := unix.Unmount(dir, 0)
	for end := time.Now().Add(need.Patience(30 * time.Second)); err == unix.EBUSY && time.Now().Before(end); err = unix.Unmount(dir, 0) {
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		t.Errorf("unmount %s: %v", dir, err)
		_ = unix.Unmount(dir, unix.MNT_DETACH) // so that what is below can go
	}
}

// memory returns a directory for large files that need not last.
func memory() string {
	if fi, err := os.Stat("/dev/shm"); err == nil && fi.IsDir() {
		return "/dev/shm"
	}
	return ""
}
