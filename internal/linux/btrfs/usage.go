package btrfs

import (
	"context"
	"encoding/binary"
	"math"
	"os"
	"unsafe"
)

// Usage is what a subvolume has for itself.
type Usage struct {
	Bytes  int64 // of extents, compressed ones as they are on disk
	Inodes int64
}

// searchKey is btrfs_ioctl_search_key; ranges include both ends. Types are
// those of btrfs_tree.h.
type searchKey struct {
	tree                   uint64
	minObject, maxObject   uint64
	minOffset, maxOffset   uint64
	minTransid, maxTransid uint64
	minType, maxType       uint32
	items                  uint32
	_                      uint32
	_                      [4]uint64
}

// searchArgs is btrfs_ioctl_search_args_v2 with its buffer.
type searchArgs struct {
	key  searchKey
	size uint64
	buf  [64 << 10]byte
}

// Item types and the layout of what is read of them, little-endian on disk.
const (
	inodeItem   = 1   // BTRFS_INODE_ITEM_KEY: generation, transid, …
	extentData  = 108 // BTRFS_EXTENT_DATA_KEY: btrfs_file_extent_item
	headerSize  = 32  // btrfs_ioctl_search_header
	inlineData  = 0   // BTRFS_FILE_EXTENT_INLINE
	extentLen   = 53  // of an item that is not inline
	inlineStart = 21
)

// Changed adds up what was written in the subvolume behind fd after the
// transaction since: extents, each once, and inodes that were made or changed.
// The top directory always counts. With since as Describe tells it, that is
// what the subvolume does not share with what it was made of. What is not
// written back yet is not seen (syncfs). The search passes over nodes of the
// tree that are older, so that it costs what changed, not what is there.
//
// Errors: the context's.
func Changed(ctx context.Context, fd int, since uint64) (Usage, error) {
	s := &sum{since: since, seen: map[uint64]bool{}, Usage: Usage{Inodes: 1}}
	a := &searchArgs{key: searchKey{
		minObject: firstInode, maxObject: math.MaxUint64 - 255, // BTRFS_LAST_FREE_OBJECTID
		maxOffset: math.MaxUint64, minTransid: since + 1, maxTransid: math.MaxUint64, minType: inodeItem, maxType: extentData,
	}}
	for {
		if err := context.Cause(ctx); err != nil {
			return Usage{}, err
		}
		a.key.items, a.size = math.MaxUint32, uint64(len(a.buf))
		if err := control(fd, iocTreeSearch2, unsafe.Pointer(a)); err != nil {
			return Usage{}, os.NewSyscallError("BTRFS_IOC_TREE_SEARCH_V2", err)
		}
		if a.key.items == 0 {
			return s.Usage, nil
		}
		last, ok := s.add(a.buf[:], a.key.items)
		if !ok {
			return s.Usage, nil
		}
		// The three numbers are one, most significant first: go on behind the last.
		a.key.minObject, a.key.minType, a.key.minOffset = last.object, last.typ, last.offset+1
		if a.key.minOffset == 0 {
			if a.key.minType++; a.key.minType > math.MaxUint8 {
				a.key.minType = 0
				a.key.minObject++
			}
		}
	}
}

// itemKey is where an item stands in its tree.
type itemKey struct {
	object, offset uint64
	typ            uint32
}

// sum adds up items.
type sum struct {
	Usage
	since uint64
	seen  map[uint64]bool // extents, by where they begin on disk
}

// add takes the items that a search returned; the last one's key is where to go
// on. It reports false if there was none whole.
func (s *sum) add(buf []byte, items uint32) (last itemKey, ok bool) {
	for range items {
		if len(buf) < headerSize {
			return last, ok
		}
		h := binary.NativeEndian
		last = itemKey{object: h.Uint64(buf[8:]), offset: h.Uint64(buf[16:]), typ: h.Uint32(buf[24:])}
		n := int(h.Uint32(buf[28:]))
		buf = buf[headerSize:]
		if n > len(buf) {
			return last, ok
		}
		ok = true
		s.item(last, buf[:n])
		buf = buf[n:]
	}
	return last, ok
}

func (s *sum) item(k itemKey, b []byte) {
	le := binary.LittleEndian
	switch {
	case k.typ == inodeItem && len(b) >= 16:
		if k.object != firstInode && le.Uint64(b[8:]) > s.since {
			s.Inodes++
		}
	case k.typ == extentData && len(b) >= inlineStart && le.Uint64(b) > s.since:
		if b[20] == inlineData {
			s.Bytes += int64(len(b) - inlineStart)
			return
		}
		if len(b) < extentLen {
			return
		}
		where, size := le.Uint64(b[21:]), le.Uint64(b[29:])
		if where != 0 && !s.seen[where] { // 0 is a hole
			s.seen[where] = true
			s.Bytes += int64(size)
		}
	}
}
