package btrfs

import (
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// TestLayout checks structures against linux/btrfs.h.
func TestLayout(t *testing.T) {
	for name, size := range map[string][2]uintptr{
		"btrfs_ioctl_vol_args":       {unsafe.Sizeof(volArgs{}), 4096},
		"btrfs_ioctl_vol_args_v2":    {unsafe.Sizeof(volArgs2{}), 4096},
		"btrfs_ioctl_search_key":     {unsafe.Sizeof(searchKey{}), 104},
		"btrfs_ioctl_search_args_v2": {unsafe.Offsetof(searchArgs{}.buf), 112},
	} {
		if size[0] != size[1] {
			t.Errorf("%s has %d bytes, want %d", name, size[0], size[1])
		}
	}
}

// TestElsewhere checks what is said of names that cannot be, and of another
// file system.
func TestElsewhere(t *testing.T) {
	d, err := os.Open("/proc")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, name := range []string{"", ".", "..", "a/b", "a\x00b", strings.Repeat("x", 256)} {
		for what, err := range map[string]error{"create": Create(d, name), "snapshot": Snapshot(d, d, name), "destroy": Destroy(d, name)} {
			if errdefs.KindOf(err) != errdefs.Invalid {
				t.Errorf("%s %q: %v", what, name, err)
			}
		}
	}
	if err := Create(d, "x"); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("create: %v", err)
	}
	if is, err := Is(int(d.Fd())); is || err != nil {
		t.Errorf("%v, %v", is, err)
	}
}

// TestSum adds up items as a search returns them.
func TestSum(t *testing.T) {
	var buf []byte
	items := uint32(0)
	item := func(object, offset uint64, typ uint32, data []byte) {
		h := make([]byte, headerSize)
		binary.NativeEndian.PutUint64(h[8:], object)
		binary.NativeEndian.PutUint64(h[16:], offset)
		binary.NativeEndian.PutUint32(h[24:], typ)
		binary.NativeEndian.PutUint32(h[28:], uint32(len(data)))
		buf = append(append(buf, h...), data...)
		items++
	}
	inode := func(number, transid uint64) {
		b := make([]byte, 160)
		binary.LittleEndian.PutUint64(b[8:], transid)
		item(number, 0, inodeItem, b)
	}
	extent := func(generation, where, size uint64) {
		b := make([]byte, extentLen)
		b[20] = 1 // regular
		binary.LittleEndian.PutUint64(b, generation)
		binary.LittleEndian.PutUint64(b[21:], where)
		binary.LittleEndian.PutUint64(b[29:], size)
		item(300, uint64(items)<<12, extentData, b)
	}
	inode(firstInode, 20) // the top counts from the beginning
	inode(300, 20)
	inode(301, 10) // old
	extent(20, 1<<20, 4096)
	extent(20, 1<<20, 4096) // the rest of the same
	extent(20, 0, 1<<30)    // a hole
	extent(10, 2<<20, 8192) // old
	small := make([]byte, inlineStart+100)
	binary.LittleEndian.PutUint64(small, 20)
	item(302, 0, extentData, small)
	s := &sum{since: 10, seen: map[uint64]bool{}, Usage: Usage{Inodes: 1}}
	last, ok := s.add(buf, items)
	if !ok || last != (itemKey{302, 0, extentData}) || s.Usage != (Usage{Bytes: 4096 + 100, Inodes: 2}) {
		t.Errorf("%+v, %+v, %v", s.Usage, last, ok)
	}
	if _, ok := s.add(buf[:headerSize+1], 1); ok {
		t.Error("half an item")
	}
}
