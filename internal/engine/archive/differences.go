package archive

import (
	"context"
	"errors"
	"io"
	"slices"

	apicontainer "github.com/moby/moby/api/types/container"

	"lade/internal/layer"
)

// changes lists what a container's snapshot has otherwise than its parent.
func (c *Copier) changes(ctx context.Context, id string) (out []layer.Change, err error) {
	root, err := c.snapshots.Root(ctx, id)
	if err != nil {
		return nil, err
	}
	if len(root.Lower) > 0 {
		return layer.Changes(ctx, root.Upper, root.Lower, false)
	}
	err = c.compare(ctx, id, func(t layer.Trees) error {
		out, err = t.Changes(ctx)
		return err
	})
	return out, err
}

// layer writes the layer tar of it.
func (c *Copier) layer(ctx context.Context, id string, w io.Writer) error {
	root, err := c.snapshots.Root(ctx, id)
	if err != nil {
		return err
	}
	if len(root.Lower) > 0 {
		return layer.Diff(ctx, layer.DiffOptions{Upper: root.Upper}, w)
	}
	return c.compare(ctx, id, func(t layer.Trees) error { return t.Diff(ctx, w) })
}

// Changed returns the disk space, in bytes, of the files that a container added
// or changed.
func (c *Copier) Changed(ctx context.Context, id string) (sum int64, err error) {
	root, err := c.snapshots.Root(ctx, id)
	if err != nil {
		return 0, err
	}
	if len(root.Lower) > 0 {
		return layer.Size(ctx, root.Upper)
	}
	err = c.compare(ctx, id, func(t layer.Trees) error {
		sum, err = t.Usage(ctx)
		return err
	})
	return sum, err
}

// compare opens a snapshot and its parent, of a driver that keeps both as whole
// trees.
func (c *Copier) compare(ctx context.Context, id string, f func(layer.Trees) error) error {
	info, err := c.snapshots.Stat(ctx, id)
	if err != nil {
		return err
	}
	var t layer.Trees
	if t.New, err = c.host.MountKey(ctx, id); err != nil {
		return err
	}
	if info.Parent != "" {
		if t.Old, err = c.host.MountKey(ctx, info.Parent); err != nil {
			return errors.Join(err, t.New.Close())
		}
		defer t.Old.Close()
	}
	defer t.New.Close()
	return f(t)
}

// ContainerChanges lists what a container changed in its image's files.
func (c *Copier) ContainerChanges(ctx context.Context, name string) ([]apicontainer.FilesystemChange, error) {
	a, err := c.host.Find(name)
	if err != nil {
		return nil, err
	}
	changes, err := c.changes(ctx, a.View().ID)
	if err != nil {
		return nil, err
	}
	out := make([]apicontainer.FilesystemChange, 0, len(changes))
	for _, f := range changes {
		out = append(out, apicontainer.FilesystemChange{Kind: apicontainer.ChangeType(f.Kind), Path: f.Path})
	}
	return slices.Clip(out), nil
}
