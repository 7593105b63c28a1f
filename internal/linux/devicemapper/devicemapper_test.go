package devicemapper

import (
	"context"
	"errors"
	"os"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/need"
)

// TestHeader checks the layout against dm-ioctl.h.
func TestHeader(t *testing.T) {
	var h header
	if s := unsafe.Sizeof(h); s != headerSize {
		t.Errorf("struct dm_ioctl has %d bytes, want %d", s, headerSize)
	}
	if o := unsafe.Offsetof(h.name); o != 48 {
		t.Errorf("name at %d, want 48", o)
	}
	if s := Device(unix.Mkdev(253, 300)).String(); s != "253:300" {
		t.Error(s)
	}
}

// TestDevice makes a device of zeroes. Where the kernel has no device mapper
// Open must say so.
func TestDevice(t *testing.T) {
	need.Root(t)
	c, err := Open()
	if errdefs.KindOf(err) == errdefs.Unavailable && err != nil {
		t.Skipf("%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	name := "lade-test-" + strconv.Itoa(os.Getpid())
	if _, found, err := c.Find(name); found || err != nil {
		t.Fatalf("%v, %v", found, err)
	}
	if c.Has("no-such-target") {
		t.Error("the kernel has everything")
	}
	if _, err := c.Create(name, false, Target{Sectors: 8, Type: "no-such-target"}); err == nil {
		t.Error("a table of nonsense")
	}
	if _, found, _ := c.Find(name); found {
		t.Error("a device without a table is left")
	}
	d, err := c.Create(name, false, Target{Sectors: 64, Type: "error"})
	if err != nil {
		t.Fatal(err)
	}
	if got, found, err := c.Find(name); got != d || !found || err != nil {
		t.Errorf("%v, %v, %v", got, found, err)
	}
	if all, err := c.List(); err != nil || all[name] != d {
		t.Errorf("%v, %v", all, err)
	}
	if _, err := c.Create(name, false); !errors.Is(err, unix.EBUSY) {
		t.Errorf("twice: %v", err)
	}
	if err := c.Suspend(d); err != nil {
		t.Error(err)
	}
	if _, live, err := c.Live(name); live || err != nil {
		t.Errorf("suspended: %v, %v", live, err)
	}
	if got, found, err := c.Recover(name); got != d || !found || err != nil {
		t.Errorf("%v, %v, %v", got, found, err)
	}
	if _, live, err := c.Live(name); !live || err != nil {
		t.Errorf("resumed: %v, %v", live, err)
	}
	f, err := os.Open(d.Path())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(name); !errors.Is(err, unix.EBUSY) {
		t.Errorf("open: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), need.Patience(30*time.Second))
	defer cancel()
	done := make(chan error)
	go func() { done <- c.RemoveWait(ctx, name) }()
	f.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, found, err := c.Find(name); found || err != nil {
		t.Errorf("after removal: %v, %v", found, err)
	}
}
