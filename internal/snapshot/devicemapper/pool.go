package devicemapper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	dm "lade/internal/linux/devicemapper"
	"lade/internal/linux/loop"
	"lade/internal/linux/sys"
)

const (
	sector = 512
	// patience is how long a device that is still open is waited for.
	patience = 10 * time.Second
	// maxID is the greatest number of a thin device.
	maxID = 1<<24 - 1
)

// pool is a thin pool and the devices of ours that are active.
type pool struct {
	*dm.Control
	dev    dm.Device
	prefix string // of the names of devices
	own    bool   // we made the pool, and remove it
	loops  [2]string
}

// openPool opens the pool that the options name, or makes our own.
func openPool(root string, o Options) (_ *pool, err error) {
	var st unix.Stat_t
	if err := unix.Stat(root, &st); err != nil {
		return nil, sys.Error("stat", root, err)
	}
	p := &pool{prefix: fmt.Sprintf("lade-%d:%d-%d-", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)}
	if p.Control, err = dm.Open(); err != nil {
		return nil, err
	}
	switch {
	case !p.Has("thin-pool"):
		err = errdefs.Unavailablef("the kernel has no thin provisioning (module dm_thin_pool)")
	case o.ThinPool != "":
		err = p.find(o.ThinPool)
	default:
		err = p.make(root, o)
	}
	if err == nil {
		err = p.recover()
	}
	if err != nil {
		return nil, errors.Join(err, p.Control.Close())
	}
	return p, nil
}

// recover lets devices go on that a process held back when it died: whoever
// reads them waits.
func (p *pool) recover() error {
	all, err := p.List()
	if err != nil {
		return err
	}
	for name := range all {
		if strings.HasPrefix(name, p.prefix) {
			if _, _, err := p.Recover(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// find takes the pool of a node.
func (p *pool) find(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return errdefs.Invalidf("devicemapper: dm.thinpooldev: %w", sys.Error("stat", path, err))
	}
	p.dev = dm.Device(st.Rdev)
	if _, err := p.space(); err != nil {
		return errdefs.Invalidf("devicemapper: dm.thinpooldev: %s is no thin pool: %w", path, err)
	}
	return nil
}

// make finds our own pool, active since before a crash, or makes it of the two
// files.
func (p *pool) make(root string, o Options) error {
	p.own = true
	p.loops = [2]string{filepath.Join(root, "metadata"), filepath.Join(root, "data")}
	if _, err := os.Stat(p.loops[0]); errors.Is(err, os.ErrNotExist) {
		// What is active has the name of a root that was deleted.
		if err := p.deactivateAll(context.Background()); err != nil {
			return err
		}
	}
	d, found, err := p.Recover(p.prefix + "pool")
	if err != nil {
		return err
	}
	if found {
		p.dev = d
		return nil
	}
	var devices [2]string
	var sectors uint64
	for i, size := range []int64{o.MetadataSize, o.DataSize} {
		f, err := sparse(p.loops[i], size)
		if err != nil {
			return err
		}
		defer f.Close()
		d, err := loop.Attach(f)
		if err != nil {
			return err
		}
		defer d.Close() // the pool keeps it
		fi, err := f.Stat()
		if err != nil {
			return err
		}
		devices[i], sectors = d.Name(), uint64(fi.Size())/sector
	}
	block := uint64(o.BlockSize) / sector
	p.dev, err = p.Create(p.prefix+"pool", false, dm.Target{
		Sectors: sectors / block * block, Type: "thin-pool",
		// Nothing warns of a full pool but its status; writers get ENOSPC at once
		// instead of waiting for somebody to enlarge it.
		Params: fmt.Sprintf("%s %s %d 0 1 error_if_no_space", devices[0], devices[1], block),
	})
	return err
}

// sparse opens a file of at least that size.
func sparse(path string, size int64) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() < size {
		err = f.Truncate(size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// space is how full a pool is, in blocks.
type space struct{ metaUsed, meta, dataUsed, data int64 }

// space reads the status of the pool.
//
// Source: thin-provisioning.rst, "Status": transaction id, used/total metadata
// blocks, used/total data blocks, …
func (p *pool) space() (s space, err error) {
	status, err := p.Status(p.dev)
	if err != nil {
		return s, err
	}
	var transaction int64
	if _, err := fmt.Sscanf(status, "%d %d/%d %d/%d", &transaction, &s.metaUsed, &s.meta, &s.dataUsed, &s.data); err != nil {
		return s, errdefs.Unavailablef("the thin pool says %q", status)
	}
	return s, nil
}

// name returns the name of an active thin device.
func (p *pool) name(id uint64) string { return p.prefix + strconv.FormatUint(id, 10) }

// snapshot makes the thin device id as a snapshot of origin. One of that number
// that is there is what a crash left.
func (p *pool) snapshot(id, origin uint64) (err error) {
	if id > maxID {
		return errdefs.Exhaustedf("the thin pool has no more numbers for devices")
	}
	message := fmt.Sprintf("create_snap %d %d", id, origin)
	d, live, err := p.Live(p.name(origin))
	if err != nil {
		return err
	}
	if live { // somebody looks at it
		if err := p.Suspend(d); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.Resume(d)) }()
	}
	err = p.Message(p.dev, message)
	if errors.Is(err, unix.EEXIST) {
		if err = p.delete(id); err == nil {
			err = p.Message(p.dev, message)
		}
	}
	return err
}

// delete deletes a thin device; one that is not there is nothing to delete.
func (p *pool) delete(id uint64) error {
	err := p.Message(p.dev, fmt.Sprintf("delete %d", id))
	if errors.Is(err, unix.ENODATA) {
		return nil
	}
	return err
}

// table is that of a thin device of so many bytes.
func (p *pool) table(id uint64, bytes int64) dm.Target {
	return dm.Target{Sectors: uint64(bytes) / sector, Type: "thin", Params: p.dev.String() + " " + strconv.FormatUint(id, 10)}
}

// activate returns the block device of a thin device.
func (p *pool) activate(id uint64, bytes int64) (dm.Device, error) {
	d, found, err := p.Recover(p.name(id))
	if err != nil || found {
		return d, err
	}
	return p.Create(p.name(id), false, p.table(id, bytes))
}

// deactivate ends a block device as soon as nobody uses it any more.
func (p *pool) deactivate(ctx context.Context, id uint64) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return p.RemoveWait(ctx, p.name(id))
}

// deactivateAll ends all devices, and our own pool last; what is in use stays.
func (p *pool) deactivateAll(ctx context.Context) error {
	all, err := p.List()
	if err != nil {
		return err
	}
	for name := range all {
		if strings.HasPrefix(name, p.prefix) && name != p.prefix+"pool" {
			if err := p.Remove(name); err != nil && !errors.Is(err, unix.EBUSY) {
				return err
			}
		}
	}
	if !p.own {
		return nil
	}
	if err := p.Remove(p.prefix + "pool"); err != nil && !errors.Is(err, unix.EBUSY) {
		return err
	}
	return nil
}
