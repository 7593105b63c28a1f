package image

import (
	"context"
	"errors"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/ids"
	"lade/internal/snapshot"
)

// groundLayer stands for what the engine adds to every image before containers
// stand on it. Its name changes when what it holds does.
var groundLayer = digest.DiffID(digest.FromBytes([]byte("lade: mount points of a container, 1")))

// Ground identifies the image's layers with the engine's layer on top.
func (i *Image) Ground() digest.ChainID {
	chain := digest.Chain(append(DiffIDs(i.Layers), groundLayer))
	return chain[len(chain)-1]
}

// Ground returns the key of the snapshot that containers of the image stand
// on: its layers and one more, which fill makes, once, in the given root. Like
// Docker's init layer it holds the mount points that every container has, so
// that a start writes nothing into the container's own layer, and diff does
// not show them.
//
// Errors: as Prepare and Commit of the snapshotter, and what fill returns; then
// nothing is left.
func (s *Images) Ground(ctx context.Context, img *Image, fill func(snapshot.Root) error) (string, error) {
	c := img.Ground()
	key := SnapshotKey(c)
	if info, err := s.snap.Stat(ctx, key); err == nil && info.Kind == snapshot.Committed {
		return key, nil
	} else if err != nil && errdefs.KindOf(err) != errdefs.NotFound {
		return "", err
	}
	lock := s.chainLock(c)
	lock.Lock()
	defer lock.Unlock()
	if info, err := s.snap.Stat(ctx, key); err == nil && info.Kind == snapshot.Committed {
		return key, nil // made while we waited
	}
	temporary := unpackPrefix + ids.New()
	s.setTemporary(temporary, true)
	defer s.setTemporary(temporary, false)
	root, err := s.snap.Prepare(ctx, temporary, img.Top())
	if err != nil {
		return "", err
	}
	if err = fill(root); err == nil {
		err = s.snap.Commit(ctx, key, temporary)
	}
	if err != nil {
		return "", errors.Join(err, ignoreMissing(s.snap.Remove(context.WithoutCancel(ctx), temporary)))
	}
	s.mu.Lock()
	delete(s.unpacking, c)
	s.mu.Unlock()
	return key, nil
}
