package devicemapper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/atomicfile"
	dm "lade/internal/linux/devicemapper"
	"lade/internal/linux/sys"
	"lade/internal/trace"
)

// base is what is recorded of device 0.
type base struct {
	FS    string `json:"fs"`
	Size  int64  `json:"size"`  // bytes
	Block int64  `json:"block"` // bytes that the pool gives out at once
}

// readBase reads what is recorded of device 0; made is false if it is not ready.
// A pool that has one keeps it, whatever the options say now.
func (d *Driver) readBase() (made bool, err error) {
	path := filepath.Join(d.root, "base")
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		d.base = base{FS: d.options.FS, Size: d.options.BaseSize, Block: d.options.BlockSize}
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(raw, &d.base); err != nil {
		return false, errdefs.DataLossf("%s: %w", path, err)
	}
	d.options.BlockSize = d.base.Block
	return true, nil
}

// writeBase makes device 0 and then its record.
func (d *Driver) writeBase(ctx context.Context) error {
	if err := d.makeBase(ctx); err != nil {
		return err
	}
	raw, err := json.Marshal(d.base)
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(d.root, "base"), raw, 0o600)
}

// makeBase makes the empty file system, from the beginning whatever a crash
// left.
func (d *Driver) makeBase(ctx context.Context) error {
	if err := errors.Join(d.pool.deactivate(ctx, 0), d.pool.delete(0)); err != nil {
		return err
	}
	if err := d.pool.Message(d.pool.dev, "create_thin 0"); err != nil {
		return err
	}
	dev, err := d.pool.activate(0, d.base.Size)
	if err != nil {
		return err
	}
	if err = mkfs(ctx, dev.Path(), d.options); err == nil {
		err = d.emptyBase(dev)
	}
	return errors.Join(err, d.pool.deactivate(context.WithoutCancel(ctx), 0))
}

// mkfs makes a file system. The device reads as zeroes, so that nothing needs
// to be cleared; older mkfs do not know how to be told.
func mkfs(ctx context.Context, path string, o Options) error {
	program := "mkfs." + o.FS
	ways := [][]string{{"-q", "-f", "-K"}}
	if o.FS == "ext4" {
		ways = [][]string{
			{"-q", "-F", "-E", "nodiscard,assume_storage_prezeroed=1"},
			{"-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"},
		}
	}
	var err error
	for _, args := range ways {
		sp := trace.Begin(trace.Mount, program, path)
		var out []byte
		out, err = exec.CommandContext(ctx, program, append(append(args, o.MkfsArgs...), path)...).CombinedOutput()
		if sp.End(err) == nil {
			return nil
		}
		if errors.Is(err, exec.ErrNotFound) {
			return errdefs.Unavailablef("a thin pool is initialised with %s, which is not installed", program)
		}
		err = fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(string(out)))
	}
	return err
}

// emptyBase takes out what mkfs puts into a new file system.
func (d *Driver) emptyBase(dev dm.Device) error {
	at := filepath.Join(d.root, "base-mount")
	if err := os.MkdirAll(at, 0o700); err != nil {
		return err
	}
	if err := d.mount(dev, at, false); err != nil {
		return err
	}
	err := os.Remove(filepath.Join(at, "lost+found"))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.Chmod(at, 0o755), d.mounts.Release(at), flush(dev), os.Remove(at))
}

// flush makes durable what was written to a device.
func flush(dev dm.Device) error {
	f, err := os.Open(dev.Path())
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// mount mounts a device.
func (d *Driver) mount(dev dm.Device, at string, readOnly bool) error {
	var flags uintptr
	options := []string{"discard"} // what is deleted goes back to the pool
	if d.base.FS == "xfs" {
		options = append(options, "nouuid") // a snapshot has its origin's
	}
	if readOnly {
		flags |= unix.MS_RDONLY
	}
	if d.options.MountOptions != "" {
		options = append(options, d.options.MountOptions)
	}
	sp := trace.Begin(trace.Mount, "mount", dev.Path()+" "+at)
	return sp.End(sys.Error("mount", at, unix.Mount(dev.Path(), at, d.base.FS, flags, strings.Join(options, ","))))
}

// grow lets a mounted file system fill its device, of so many bytes.
//
// Sources: linux/ext4.h, EXT4_IOC_RESIZE_FS; xfs_fs.h, XFS_IOC_FSGROWFSDATA.
func (d *Driver) grow(at string, bytes int64) error {
	const (
		ext4Resize = 0x40086610 // _IOW('f', 16, __u64): number of blocks
		xfsGrow    = 0x4010586e // _IOW('X', 110, xfs_growfs_data)
	)
	f, err := os.Open(at)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return sys.Error("fstatfs", at, err)
	}
	blocks := uint64(bytes) / uint64(st.Bsize)
	request, arg := uintptr(ext4Resize), unsafe.Pointer(&blocks)
	data := struct {
		blocks  uint64
		percent uint32 // of inodes
	}{blocks, 25}
	if d.base.FS == "xfs" {
		request, arg = xfsGrow, unsafe.Pointer(&data)
	}
	sp := trace.Begin(trace.Mount, "grow", at)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg)); errno != 0 {
		return sp.End(sys.Error("grow", at, errno))
	}
	return sp.End(nil)
}
