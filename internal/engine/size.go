package engine

import (
	"context"
	"strings"

	"github.com/docker/go-units"

	"lade/internal/errdefs"
)

// askedSize returns how many bytes a container's own files may take, by what is
// said at its creation (--storage-opt size=), else by the daemon's default; 0
// is no limit. Errors: Invalid.
func (e *Engine) askedSize(options map[string]string) (int64, error) {
	size := e.settings().Defaults.StorageSize
	for k, v := range options {
		if strings.ToLower(k) != "size" {
			return 0, errdefs.Invalidf("unknown storage option %s", k)
		}
		var err error
		if size, err = units.RAMInBytes(v); err != nil || size <= 0 {
			return 0, errdefs.Invalidf("storage option size: invalid size %q", v)
		}
	}
	return size, nil
}

// limitSize limits a new snapshot. Errors: Invalid where that is not possible.
func (e *Engine) limitSize(ctx context.Context, id string, size int64) error {
	err := e.Snapshots.Limit(ctx, id, size)
	switch errdefs.KindOf(err) {
	case errdefs.NotImplemented, errdefs.Unavailable, errdefs.Invalid:
		if err != nil {
			return errdefs.Invalidf("storage option size: %w", err)
		}
	}
	return err
}
