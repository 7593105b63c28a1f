package snapshottest

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/need"
	"lade/internal/snapshot"
)

// Full checks that an active snapshot on parent, with a limit of so many bytes,
// takes half as many and refuses twice as many with ENOSPC or EDQUOT, and that
// its neighbour, which has no limit, takes those at the same time.
func Full(t testing.TB, d snapshot.Snapshotter, parent string, limit int64) {
	t.Helper()
	ctx := t.Context()
	r, err := d.Prepare(ctx, "limited", parent)
	ok(t, err)
	ok(t, d.Limit(ctx, "limited", limit))
	for _, tc := range []struct {
		key  string
		size int64
		want errdefs.Kind
	}{{"limited", 0, errdefs.Invalid}, {"limited", -1, errdefs.Invalid}, {"nope", limit, errdefs.NotFound}} {
		if err := d.Limit(ctx, tc.key, tc.size); err == nil || errdefs.KindOf(err) != tc.want {
			t.Errorf("limit %s to %d: %v", tc.key, tc.size, err)
		}
	}
	other, err := d.Prepare(ctx, "neighbour", parent)
	ok(t, err)
	dir, beside := mount(t, r), mount(t, other)
	fill(t, dir, limit/2, true)
	fill(t, dir, 2*limit, false)
	fill(t, beside, 2*limit, true)
	ok(t, os.Remove(filepath.Join(dir, "fill")))
	// What is deleted is given back, by ZFS with the next group of transactions.
	flush(t, dir)
	for end := time.Now().Add(need.Patience(15 * time.Second)); ; time.Sleep(50 * time.Millisecond) {
		err := errors.New("no attempt")
		AsContainer(func() { err = writeFile(filepath.Join(dir, "fill"), limit/2) })
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Errorf("what is deleted is not given back: %v", err)
			return
		}
	}
}

// fill writes a file of so many bytes and says whether that must work.
func fill(t testing.TB, dir string, size int64, works bool) {
	t.Helper()
	var err error
	AsContainer(func() { err = writeFile(filepath.Join(dir, "fill"), size) })
	switch {
	case works && err != nil:
		t.Errorf("write %d bytes: %v", size, err)
	case !works && err == nil:
		t.Errorf("%d bytes can be written, beyond the limit", size)
	case !works && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT):
		t.Errorf("beyond the limit: %v", err)
	}
}

func writeFile(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for i := range buf {
		buf[i] = byte(i * 7919 >> 3) // nothing that could be left out
	}
	for n := int64(0); n < size && err == nil; n += int64(len(buf)) {
		_, err = f.Write(buf)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// AsContainer calls f without CAP_SYS_RESOURCE, which containers do not have
// and which ext4 lets go beyond quotas.
func AsContainer(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		err := unix.Capget(&h, &data[0])
		if err == nil {
			data[0].Effective &^= 1 << unix.CAP_SYS_RESOURCE
			err = unix.Capset(&h, &data[0])
		}
		if err != nil {
			panic(err)
		}
		f()
	}()
	<-done
}

// flush writes a file system to its disk, which settles accounts.
func flush(t testing.TB, dir string) {
	t.Helper()
	d, err := os.Open(dir)
	ok(t, err)
	defer d.Close()
	ok(t, unix.Syncfs(int(d.Fd())))
}
