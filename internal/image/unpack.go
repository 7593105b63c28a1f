package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"sync"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/ids"
	"lade/internal/layer"
	"lade/internal/snapshot"
)

// unpackPrefix begins the keys of the active snapshots of unpackers.
const unpackPrefix = "unpack-"

// UnpackOptions tells an unpacker where its layers come from and whom it tells.
type UnpackOptions struct {
	// Ready blocks until the blob of layer i is in the content store; nil when
	// they all are.
	Ready func(ctx context.Context, i int) error
	// Progress is told how many bytes of layer i's blob have been unpacked.
	Progress func(i int, done int64)
	// Done is told that layer i is there; existed: it was there before.
	Done func(i int, existed bool)
}

// Unpack makes a committed snapshot of every prefix of layers, bottom first,
// and sets the Size of each layer. A snapshot that exists is taken as it is.
// Every layer is checked against its DiffID. The snapshots are held by the
// lease. On failure the layers that were done stay, under the lease.
//
// Errors: DataLoss for a layer that is not what its DiffID says or is damaged,
// Exhausted, what Ready returned, the context's.
func (s *Images) Unpack(ctx context.Context, l *Lease, layers []Layer, o UnpackOptions) error {
	chains := digest.Chain(DiffIDs(layers))
	if err := l.HoldChains(chains...); err != nil {
		return err
	}
	parent := ""
	for i, c := range chains {
		if o.Ready != nil {
			if err := o.Ready(ctx, i); err != nil {
				return err
			}
		}
		progress := func(n int64) {
			if o.Progress != nil {
				o.Progress(i, n)
			}
		}
		existed, err := s.unpackOne(ctx, c, parent, &layers[i], progress)
		if err != nil {
			return err
		}
		if o.Done != nil {
			o.Done(i, existed)
		}
		parent = SnapshotKey(c)
	}
	return nil
}

// chainLock returns the lock that the unpackers of one chain share.
func (s *Images) chainLock(c digest.ChainID) *sync.Mutex {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unpacking[c] == nil {
		s.unpacking[c] = new(sync.Mutex)
	}
	return s.unpacking[c]
}

func (s *Images) unpackOne(ctx context.Context, c digest.ChainID, parent string, l *Layer, progress func(int64)) (existed bool, err error) {
	lock := s.chainLock(c)
	lock.Lock()
	defer lock.Unlock()
	info, err := s.snap.Stat(ctx, SnapshotKey(c))
	if err == nil && info.Kind == snapshot.Committed {
		l.Size, err = s.layerSize(ctx, c)
		return true, err
	}
	if err != nil && errdefs.KindOf(err) != errdefs.NotFound {
		return false, err
	}
	key := unpackPrefix + ids.New()
	s.setTemporary(key, true)
	defer s.setTemporary(key, false)
	root, err := s.snap.Prepare(ctx, key, parent)
	if err != nil {
		return false, err
	}
	if err = s.apply(ctx, key, root, l, progress); err == nil {
		err = s.snap.Commit(ctx, SnapshotKey(c), key)
	}
	if err != nil {
		return false, errors.Join(err, ignoreMissing(s.snap.Remove(context.WithoutCancel(ctx), key)))
	}
	s.mu.Lock()
	delete(s.unpacking, c) // who waits has the lock already; who comes finds the snapshot
	s.mu.Unlock()
	return false, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, errdefs.NotFound) {
		return nil
	}
	return err
}

func (s *Images) setTemporary(key string, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if on {
		s.temporary[key] = true
	} else {
		delete(s.temporary, key)
	}
}

// apply unpacks one layer into the active snapshot key, checks its DiffID and
// sets its Size.
func (s *Images) apply(ctx context.Context, key string, root snapshot.Root, l *Layer, progress func(int64)) error {
	dir, err := s.snap.Dir(ctx, key)
	if err != nil {
		return err
	}
	blob, _, err := s.content.Reader(digest.Digest(l.Blob.Digest))
	if err != nil {
		return err
	}
	defer blob.Close()
	plain, _, err := layer.Decompress(&counter{r: blob, tell: progress})
	if err != nil {
		return err
	}
	defer plain.Close()
	o := layer.ApplyOptions{Whiteouts: layer.Overlay, Lower: root.Lower}
	if len(root.Lower) == 0 { // a whole tree, or the bottom layer
		o.Whiteouts = layer.Delete
	}
	h := sha256.New()
	res, err := layer.Apply(ctx, dir, io.TeeReader(plain, h), o)
	if err != nil {
		return err
	}
	l.Size = res.Size
	if got := digest.DiffID(digest.FromHash(h)); got != l.DiffID {
		return errdefs.DataLossf("layer %s: wrong diff id calculated on extraction %q, want %q", l.Blob.Digest, got, l.DiffID)
	}
	return nil
}

// counter tells how much of a blob has been read.
type counter struct {
	r    io.Reader
	n    int64
	tell func(int64)
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.tell(c.n)
	return n, err
}

// layerSize returns the unpacked size of the top layer of a stack: from an
// image that has it, else from the disk.
func (s *Images) layerSize(ctx context.Context, c digest.ChainID) (int64, error) {
	s.mu.RLock()
	for _, img := range s.images {
		for i := range img.ChainIDs {
			if img.ChainIDs[i] == c {
				s.mu.RUnlock()
				return img.Layers[i].Size, nil
			}
		}
	}
	s.mu.RUnlock()
	u, err := s.snap.Usage(ctx, SnapshotKey(c))
	return u.Bytes, err
}
