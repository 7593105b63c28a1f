package snapshot

import (
	"context"

	"lade/internal/errdefs"
)

// Plain is the part of a Form of drivers whose snapshots are nothing but files
// in directories: syncfs makes them durable, unlink deletes them. A driver
// embeds it.
type Plain struct{}

// Seal implements Form.
func (Plain) Seal(context.Context, string) error { return nil }

// Discard implements Form.
func (Plain) Discard(string) error { return nil }

// Measure implements Form.
func (Plain) Measure(ctx context.Context, _ Kind, dirs []string) (Usage, error) {
	return dirUsage(ctx, dirs[0]+"/fs")
}

// Bound implements Form.
func (Plain) Bound(context.Context, string, int64) error {
	return errdefs.NotImplementedf("this storage driver cannot limit the size of a container's files")
}
