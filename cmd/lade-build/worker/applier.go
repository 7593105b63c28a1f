package worker

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/mount"
	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// applier unpacks layers, those apart that laded has unpacked: of such a snapshot
// the directory becomes a link to laded's, which overlayfs follows when it is
// mounted as a lower directory. Nothing is written through it: a snapshot that
// was applied to is committed, and read from then on.
type applier struct {
	diff.Applier
	loans *borrowed
}

// Apply implements diff.Applier.
func (a *applier) Apply(ctx context.Context, d ocispec.Descriptor, mounts []mount.Mount, opts ...diff.ApplyOpt) (ocispec.Descriptor, error) {
	l, ok := a.loans.of(d.Digest)
	dir := upperDir(mounts)
	if !ok || a.loans.noLinks || l.Dir == "" || dir == "" {
		return a.Applier.Apply(ctx, d, mounts, opts...)
	}
	if fi, err := os.Stat(l.Dir); err != nil || !fi.IsDir() {
		return a.Applier.Apply(ctx, d, mounts, opts...)
	}
	if err := os.Remove(dir); err != nil { // it must be empty
		return ocispec.Descriptor{}, fmt.Errorf("link a layer: %w", err)
	}
	if err := os.Symlink(l.Dir, dir); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("link a layer: %w", err)
	}
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: godigest.Digest(l.DiffID)}, nil
}

// upperDir returns the directory in which what is written to the mounts of a
// snapshot of containerd's overlay snapshotter ends up.
func upperDir(mounts []mount.Mount) string {
	if len(mounts) != 1 {
		return ""
	}
	switch m := mounts[0]; m.Type {
	case "bind": // a bottom layer
		return m.Source
	case "overlay":
		for _, o := range m.Options {
			if dir, ok := strings.CutPrefix(o, "upperdir="); ok {
				return dir
			}
		}
	}
	return ""
}
