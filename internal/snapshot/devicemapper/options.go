package devicemapper

import (
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"lade/internal/errdefs"
)

// Options are those of the driver, by Docker's names.
type Options struct {
	ThinPool     string   // dm.thinpooldev: node of a pool that somebody made; "" for one of our own
	BaseSize     int64    // dm.basesize: bytes of a snapshot's device
	FS           string   // dm.fs: ext4 or xfs
	MkfsArgs     []string // dm.mkfsarg: more arguments for mkfs
	MountOptions string   // dm.mountopt
	DataSize     int64    // dm.loopdatasize: bytes
	MetadataSize int64    // dm.loopmetadatasize: bytes
	BlockSize    int64    // dm.blocksize: bytes that the pool gives out at once
	MinFree      int      // dm.min_free_space: per cent of the pool that must be free for a new snapshot
}

// Names are the options that Parse takes.
func Names() []string {
	return []string{
		"dm.thinpooldev", "dm.basesize", "dm.fs", "dm.mkfsarg", "dm.mountopt", "dm.loopdatasize", "dm.loopmetadatasize",
		"dm.blocksize", "dm.min_free_space", "dm.override_udev_sync_check", "dm.use_deferred_removal", "dm.use_deferred_deletion",
	}
}

// The limits of the pool's block size.
//
// Source: thin-provisioning.rst, "data_block_size … between 128 (64KB) and
// 2097152 (1GB) and a multiple of 128".
const (
	minBlock = 64 << 10
	maxBlock = 1 << 30
)

// Parse reads options. What only concerns how dockerd works with udev is taken
// and has no effect. Errors: Invalid.
func Parse(values map[string]string) (Options, error) {
	o := Options{BaseSize: 10 << 30, FS: "ext4", DataSize: 100 << 30, MetadataSize: 2 << 30, BlockSize: minBlock, MinFree: 10}
	sizes := map[string]*int64{"dm.basesize": &o.BaseSize, "dm.loopdatasize": &o.DataSize, "dm.loopmetadatasize": &o.MetadataSize, "dm.blocksize": &o.BlockSize}
	for k, v := range values {
		var err error
		switch k {
		case "dm.thinpooldev":
			o.ThinPool = v
			if !strings.HasPrefix(v, "/") {
				o.ThinPool = "/dev/mapper/" + v
			}
		case "dm.fs":
			o.FS = v
		case "dm.mkfsarg":
			o.MkfsArgs = strings.Fields(v)
		case "dm.mountopt":
			o.MountOptions = v
		case "dm.min_free_space":
			o.MinFree, err = strconv.Atoi(strings.TrimSuffix(v, "%"))
		default:
			if p := sizes[k]; p != nil {
				*p, err = units.RAMInBytes(v)
			} else if !slices.Contains(Names(), k) {
				err = errdefs.Invalidf("unknown option")
			}
		}
		if err != nil {
			return o, errdefs.Invalidf("devicemapper: %s: invalid value %q: %w", k, v, err)
		}
	}
	switch {
	case o.FS != "ext4" && o.FS != "xfs":
		return o, errdefs.Invalidf("devicemapper: unsupported filesystem %q: dm.fs is ext4 or xfs", o.FS)
	case o.BlockSize < minBlock || o.BlockSize > maxBlock || o.BlockSize%minBlock != 0:
		return o, errdefs.Invalidf("devicemapper: dm.blocksize must be a multiple of 64 KiB, and at most 1 GiB")
	case o.BaseSize < 16<<20 || o.DataSize < o.BlockSize || o.MetadataSize < 2<<20:
		return o, errdefs.Invalidf("devicemapper: dm.basesize must be at least 16 MiB, dm.loopmetadatasize 2 MiB, and dm.loopdatasize one block")
	case o.MinFree < 0 || o.MinFree > 100:
		return o, errdefs.Invalidf("devicemapper: dm.min_free_space must be between 0%% and 100%%")
	}
	o.BaseSize -= o.BaseSize % 4096
	return o, nil
}
