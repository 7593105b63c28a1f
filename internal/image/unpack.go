package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/ids"
	"lade/internal/layer"
	"lade/internal/snapshot"
)

// unpackPrefix begins the keys of the active snapshots of unpackers.
const unpackPrefix = "unpack-"

// UnpackOptions tells an unpacker where its layers come from and whom it tells.
type UnpackOptions struct {
	// Ready blocks until the blob of layer i is in the content store; nil when
	// they all are. It is called for one layer after the other, bottom first.
	Ready func(ctx context.Context, i int) error
	// Progress is told how many bytes of layer i's blob have been unpacked. It
	// is called for several layers at the same time.
	Progress func(i int, done int64)
	// Done is told that layer i is there, bottom first; existed: it was there
	// before.
	Done func(i int, existed bool)
}

// Unpack makes a committed snapshot of every prefix of layers and sets the Size
// of each layer. A snapshot that exists is taken as it is. Every layer is
// checked against its DiffID. The snapshots are held by the lease. On failure
// the layers that were done stay, under the lease.
//
// Layers are unpacked at the same time, as many as the slots of s allow for all
// callers together, and committed bottom first. With a driver that does not
// rebase each one waits for the one below before it begins.
//
// Errors: DataLoss for a layer that is not what its DiffID says or is damaged,
// Invalid for one that is longer than the configuration allows, Exhausted, what
// Ready returned, the context's.
func (s *Images) Unpack(ctx context.Context, l *Lease, layers []Layer, o UnpackOptions) error {
	chains := digest.Chain(DiffIDs(layers))
	if err := l.HoldChains(chains...); err != nil {
		return err
	}
	if o.Progress == nil {
		o.Progress = func(int, int64) {}
	}
	if o.Done == nil {
		o.Done = func(int, bool) {}
	}
	group, ctx := errgroup.WithContext(ctx)
	parent, below := "", make(chan struct{})
	close(below) // nothing is below the bottom
	for i, c := range chains {
		u := &unpacking{
			s: s, layer: &layers[i], chain: c, parent: parent, below: below, done: make(chan struct{}),
			progress: func(n int64) { o.Progress(i, n) }, tell: func(existed bool) { o.Done(i, existed) },
		}
		parent, below = SnapshotKey(c), u.done
		if o.Ready != nil {
			if err := o.Ready(ctx, i); err != nil {
				group.Go(func() error { return err })
				break
			}
		}
		if err := u.begin(ctx, group); err != nil {
			group.Go(func() error { return err })
			break
		}
	}
	return group.Wait()
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

// unpacking is one layer on its way into a snapshot.
//
// What it holds, in this order: the lock of its chain, until the snapshot is
// committed, and a slot, while it unpacks. The layers of an image take theirs
// one after the other, bottom first. So the lowest layer that is not done has a
// slot or is done with unpacking, waits for nobody, and those above it, which
// may wait for it with a slot in hand, get on: however many images are unpacked
// at the same time, and whichever layers they share.
type unpacking struct {
	s        *Images
	layer    *Layer
	chain    digest.ChainID
	parent   string          // key of the snapshot below, "" for the bottom layer
	below    <-chan struct{} // closed when that is committed
	done     chan struct{}   // closed when this one is
	progress func(int64)
	tell     func(existed bool)
}

// begin takes what the unpacking needs and starts it, unless the snapshot is
// there. Errors: the context's, of the snapshotter.
func (u *unpacking) begin(ctx context.Context, group *errgroup.Group) error {
	lock := u.s.chainLock(u.chain)
	lock.Lock()
	info, err := u.s.snap.Stat(ctx, SnapshotKey(u.chain))
	switch {
	case err == nil && info.Kind == snapshot.Committed:
		lock.Unlock()
		if u.layer.Size, err = u.s.layerSize(ctx, u.chain); err != nil {
			return err
		}
		u.end(true)
		return nil
	case err != nil && errdefs.KindOf(err) != errdefs.NotFound:
		lock.Unlock()
		return err
	}
	if err := u.s.slots.Acquire(ctx, 1); err != nil {
		lock.Unlock()
		return context.Cause(ctx)
	}
	group.Go(func() error {
		defer lock.Unlock()
		if err := u.run(ctx); err != nil {
			return err
		}
		u.s.mu.Lock()
		delete(u.s.unpacking, u.chain) // who waits has the lock already; who comes finds the snapshot
		u.s.mu.Unlock()
		u.end(false)
		return nil
	})
	return nil
}

// end tells that the layer is there.
func (u *unpacking) end(existed bool) {
	u.tell(existed)
	close(u.done)
}

// run makes the snapshot. It has a slot, and gives it back.
func (u *unpacking) run(ctx context.Context) (err error) {
	release := sync.OnceFunc(func() { u.s.slots.Release(1) })
	defer release()
	late := u.parent != "" && u.s.snap.Rebases()
	on := u.parent
	if late {
		on = ""
	} else if err := u.wait(ctx); err != nil {
		return err
	}
	key := unpackPrefix + ids.New()
	u.s.setTemporary(key, true)
	defer u.s.setTemporary(key, false)
	root, err := u.s.snap.Prepare(ctx, key, on)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreMissing(u.s.snap.Remove(context.WithoutCancel(ctx), key)))
		}
	}()
	o := layer.ApplyOptions{Whiteouts: layer.Delete} // a whole tree, or the bottom layer
	switch {
	case late:
		o = layer.ApplyOptions{Whiteouts: layer.Overlay, Lower: func() ([]string, error) { return u.lower(ctx) }}
	case len(root.Lower) > 0:
		o = layer.ApplyOptions{Whiteouts: layer.Overlay, Lower: func() ([]string, error) { return root.Lower, nil }}
	}
	top, err := u.apply(ctx, key, o)
	if err != nil {
		return err
	}
	release()
	failpoint.Hit("image.unpacked")
	if !late {
		return u.s.snap.Commit(ctx, SnapshotKey(u.chain), key)
	}
	if err := u.wait(ctx); err != nil {
		return err
	}
	return u.s.snap.CommitOn(ctx, SnapshotKey(u.chain), key, snapshot.Base{Parent: u.parent, OwnTop: top})
}

// wait returns when the layer below is committed. Errors: the context's.
func (u *unpacking) wait(ctx context.Context) error {
	select {
	case <-u.below:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// lower returns the directories of the layers below, once they are there.
func (u *unpacking) lower(ctx context.Context) ([]string, error) {
	if err := u.wait(ctx); err != nil {
		return nil, err
	}
	root, err := u.s.snap.Root(ctx, u.parent)
	if err != nil {
		return nil, err
	}
	if len(root.Lower) == 0 {
		return []string{root.Path}, nil
	}
	return root.Lower, nil
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

// apply unpacks the layer into the active snapshot key, checks its DiffID and
// sets its Size. top tells whether the layer says what the top directory is
// like.
func (u *unpacking) apply(ctx context.Context, key string, o layer.ApplyOptions) (top bool, err error) {
	dir, err := u.s.snap.Dir(ctx, key)
	if err != nil {
		return false, err
	}
	blob, _, err := u.s.content.Reader(digest.Digest(u.layer.Blob.Digest))
	if err != nil {
		return false, err
	}
	defer blob.Close()
	plain, _, err := layer.Decompress(&counter{r: blob, tell: u.progress})
	if err != nil {
		return false, err
	}
	defer plain.Close()
	h := sha256.New()
	res, err := layer.Apply(ctx, dir, io.TeeReader(u.s.bounded(plain, u.layer), h), o)
	if err != nil {
		return false, err
	}
	u.layer.Size = res.Size
	if got := digest.DiffID(digest.FromHash(h)); got != u.layer.DiffID {
		return false, errdefs.DataLossf("layer %s: wrong diff id calculated on extraction %q, want %q", u.layer.Blob.Digest, got, u.layer.DiffID)
	}
	return res.Top, nil
}

// bounded returns r, which fails beyond what a layer may unpack to: a stream of
// a few megabytes can stand for terabytes, or for millions of empty files.
func (s *Images) bounded(r io.Reader, l *Layer) io.Reader {
	if s.max == 0 {
		return r
	}
	return &bounded{r: r, left: s.max, err: errdefs.Invalidf("layer %s: its tar is longer than %d bytes (max-layer-size)", l.Blob.Digest, s.max)}
}

type bounded struct {
	r    io.Reader
	left int64
	err  error
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, b.err
	}
	return n, err
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
