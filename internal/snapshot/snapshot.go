package snapshot

import (
	"context"
	"iter"
	"time"
)

// Kind is what a snapshot is for.
type Kind uint8

const (
	Active    Kind = iota + 1 // writable, on top of a parent
	Committed                 // read-only, may be a parent
)

// Info is what is known of a snapshot.
type Info struct {
	Key     string
	Parent  string // "" for a bottom layer
	Kind    Kind
	Created time.Time
}

// Usage is the disk space of a snapshot itself, without its parents.
type Usage struct {
	Bytes  int64
	Inodes int64
}

// Root tells how to mount a snapshot: as an overlay of directories (Lower not
// empty), or as the one directory Path. It is what wire.Rootfs carries.
type Root struct {
	Lower []string // top layer first
	Upper string
	Work  string
	Path  string
}

// Base is what a snapshot is put on when it is committed.
type Base struct {
	Parent string // key of a committed snapshot
	// OwnTop keeps mode and owner of the snapshot's top directory. Without it
	// they become the parent's, as if it had been prepared on that.
	OwnTop bool
}

// Snapshotter stores snapshots. Every method is safe for concurrent use and
// atomic: after a crash at any point a snapshot is either there whole or not
// at all, and New of the driver clears what was half done.
//
// Errors: NotFound for an unknown key or parent, Conflict for a key in use, or
// a snapshot that has children or the wrong kind, Exhausted for a full disk.
type Snapshotter interface {
	// Prepare creates an active snapshot on parent ("" for none). It does not
	// sync: an active snapshot is owned by a record that is durable.
	Prepare(ctx context.Context, key, parent string) (Root, error)
	// Commit makes a committed snapshot of the active one, durably: when it
	// returns the layer survives a power cut. The active key is gone.
	Commit(ctx context.Context, key, active string) error
	// Rebases reports whether what is written to an active snapshot does not
	// depend on its parent, so that CommitOn can put it on one that was not
	// there yet when it was prepared.
	Rebases() bool
	// CommitOn is Commit for an active snapshot that was prepared without a
	// parent: the committed one lies on base. Errors also: NotImplemented
	// unless Rebases, Conflict if it has a parent.
	CommitOn(ctx context.Context, key, active string, base Base) error
	// Limit bounds how many bytes an active snapshot can hold for itself, while
	// nothing was written to it; who writes more gets ENOSPC or EDQUOT. The bound
	// survives restarts. What is counted is the driver's (docs/storage.md).
	// Errors also: NotImplemented if the driver cannot, Unavailable with the
	// reason if its file system cannot, Invalid for a size that cannot be.
	Limit(ctx context.Context, key string, bytes int64) error
	// Root tells how to mount key: an active one writable, a committed one
	// read-only.
	Root(ctx context.Context, key string) (Root, error)
	// Dir returns the directory that holds key's own files: of an active
	// snapshot what is to be written by an unpacker or was changed by a
	// container, in the driver's on-disk form (overlay: whiteouts as 0:0
	// character devices, opaque directories by xattr).
	Dir(ctx context.Context, key string) (string, error)
	Stat(ctx context.Context, key string) (Info, error)
	Usage(ctx context.Context, key string) (Usage, error)
	// Remove deletes a snapshot that has no children. The files go in the
	// background; Close waits for them.
	Remove(ctx context.Context, key string) error
	// Walk yields every snapshot, in no order.
	Walk(ctx context.Context) iter.Seq2[Info, error]
	// Status is what `info` shows of the driver: rows of name and value.
	Status() [][2]string
	// Name is the driver's name, as in --storage-driver.
	Name() string
	Close() error
}
