package rootfs

import (
	"context"
	"log/slog"
	"os"

	"lade/internal/image"
	"lade/internal/linux/idmap"
	"lade/internal/linux/sys"
	"lade/internal/secret"
	"lade/internal/snapshot"
	"lade/internal/volume"
)

// Config is what a Mounter is made of.
type Config struct {
	Dir       string // where containers have directories for what is staged
	Kernel    sys.Features
	Images    *image.Images
	Snapshots snapshot.Snapshotter
	Volumes   *volume.Volumes
	Secrets   *secret.Store
	Logger    *slog.Logger
	// Pid returns the first process of the container of that id; 0: it has none, or
	// does not exist.
	Pid func(id string) int
	// MakeUser makes a user namespace with a map; the caller closes it.
	MakeUser func(ctx context.Context, ids idmap.Map) (*os.File, error)
}

// Mounter mounts what containers see.
type Mounter struct{ c Config }

// New returns a Mounter.
func New(c Config) *Mounter { return &Mounter{c} }
