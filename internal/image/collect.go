package image

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/snapshot"
	"lade/internal/store"
	"lade/internal/trace"
)

// step is how many objects are deleted before others may Hold.
const step = 16

// Freed is what a sweep deleted.
type Freed struct {
	Blobs  []digest.Digest
	Chains []digest.ChainID
	Bytes  int64
}

// marks are the objects that something refers to.
type marks struct {
	blobs  map[digest.Digest]bool
	chains map[digest.ChainID]bool
}

// Needed returns the blobs and the stacks of layers that images and leases need.
func (s *Images) Needed() (map[digest.Digest]bool, map[digest.ChainID]bool) {
	m := s.mark()
	return m.blobs, m.chains
}

// mark finds what images and leases need.
func (s *Images) mark() marks {
	m := marks{map[digest.Digest]bool{}, map[digest.ChainID]bool{}}
	now := time.Now()
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, img := range s.images {
		for _, d := range img.Blobs() {
			m.blobs[d] = true
		}
		for _, c := range img.ChainIDs {
			m.chains[c] = true
		}
		m.chains[img.Ground()] = true
	}
	for _, n := range s.names {
		m.blobs[digest.Digest(n.Target.Digest)] = true
	}
	for _, l := range s.leases {
		if !l.live(now) {
			continue
		}
		for _, d := range l.Blobs {
			m.blobs[d] = true
		}
		for _, c := range l.Chains {
			m.chains[c] = true
		}
	}
	return m
}

// sweep deletes those of the candidates that nothing needs. Chains are tried
// in order of their number of layers, most first; one that a container or
// another stack stands on stays. A missing candidate is no error.
func (s *Images) sweep(ctx context.Context, blobs []digest.Digest, chains []digest.ChainID) (Freed, error) {
	var freed Freed
	// What is needed now, as nearly all is, will not be looked at again. The
	// rest is judged anew while nobody can Hold.
	live := s.mark()
	blobs = slices.DeleteFunc(slices.Clone(blobs), func(d digest.Digest) bool { return live.blobs[d] })
	chains = slices.DeleteFunc(slices.Clone(chains), func(c digest.ChainID) bool { return live.chains[c] })
	parents, err := s.depths(ctx, chains)
	if err != nil {
		return freed, err
	}
	for part := range slices.Chunk(parents, step) {
		if err := s.sweepChains(ctx, part, &freed); err != nil {
			return freed, err
		}
	}
	for part := range slices.Chunk(blobs, step) {
		if err := s.sweepBlobs(ctx, part, &freed); err != nil {
			return freed, err
		}
	}
	return freed, nil
}

// depths sorts chains so that children come before their parents, and leaves
// out the missing ones.
func (s *Images) depths(ctx context.Context, chains []digest.ChainID) ([]digest.ChainID, error) {
	depth := map[digest.ChainID]int{}
	for _, c := range chains {
		n := 0
		for key := SnapshotKey(c); key != ""; n++ {
			info, err := s.snap.Stat(ctx, key)
			if errdefs.KindOf(err) == errdefs.NotFound {
				break
			}
			if err != nil {
				return nil, err
			}
			key = info.Parent
		}
		if n > 0 {
			depth[c] = n
		}
	}
	out := make([]digest.ChainID, 0, len(depth))
	for c := range depth {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b digest.ChainID) int {
		if depth[a] != depth[b] {
			return depth[b] - depth[a]
		}
		return strings.Compare(string(a), string(b))
	})
	return out, nil
}

func (s *Images) sweepChains(ctx context.Context, chains []digest.ChainID, freed *Freed) error {
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	live := s.mark()
	for _, c := range chains {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if live.chains[c] {
			continue
		}
		usage, err := s.snap.Usage(ctx, SnapshotKey(c))
		if err == nil {
			err = s.snap.Remove(ctx, SnapshotKey(c))
		}
		if errors.Is(err, errdefs.NotFound) || errors.Is(err, errdefs.Conflict) {
			continue // gone, or something stands on it
		}
		if err != nil {
			return err
		}
		freed.Chains = append(freed.Chains, c)
		freed.Bytes += usage.Bytes
	}
	return nil
}

func (s *Images) sweepBlobs(ctx context.Context, blobs []digest.Digest, freed *Freed) error {
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	live := s.mark()
	for _, d := range blobs {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if live.blobs[d] {
			continue
		}
		size, err := s.content.Stat(d)
		if err == nil {
			err = trace.Begin(trace.File, "delete blob", d.String()).End(s.content.Delete(d))
		}
		if errors.Is(err, errdefs.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		freed.Blobs = append(freed.Blobs, d)
		freed.Bytes += size
	}
	return nil
}

// Collect deletes every blob, committed snapshot, half unpacked layer, expired
// lease and old ingest that nothing needs. An active snapshot that is not an
// unpacker's is the engine's: orphan tells whether it belongs to nobody; a nil
// orphan keeps them all.
//
// It is meant for the start of the engine and for rare calls later; it runs
// beside everything else.
func (s *Images) Collect(ctx context.Context, orphan func(key string) bool) (Freed, error) {
	if err := s.expire(); err != nil {
		return Freed{}, err
	}
	if err := s.removeActive(ctx, orphan); err != nil {
		return Freed{}, err
	}
	var blobs []digest.Digest
	for info, err := range s.content.Walk() {
		if err != nil {
			return Freed{}, err
		}
		blobs = append(blobs, info.Digest)
	}
	var chains []digest.ChainID
	for info, err := range s.snap.Walk(ctx) {
		if err != nil {
			return Freed{}, err
		}
		if d, err := digest.Parse("sha256:" + info.Key); err == nil && info.Kind == snapshot.Committed {
			chains = append(chains, digest.ChainID(d))
		}
	}
	// Between the walk and now new objects can only have come under a lease,
	// which the marks of each step see.
	freed, err := s.sweep(ctx, blobs, chains)
	if err != nil {
		return freed, err
	}
	n, err := s.content.RemoveIngests(time.Now().Add(-leaseLife))
	freed.Bytes += n
	return freed, err
}

// expire forgets the leases that nobody owns any more and whose time is up.
func (s *Images) expire() error {
	var batch store.Batch
	now := time.Now()
	s.mu.Lock()
	for id, l := range s.leases {
		if !l.live(now) {
			delete(s.leases, id)
			batch.Delete(bucketLeases, id)
		}
	}
	s.mu.Unlock()
	if batch.Len() == 0 {
		return nil
	}
	return s.store.Append(&batch)
}

func (s *Images) removeActive(ctx context.Context, orphan func(key string) bool) error {
	var dead []string
	for info, err := range s.snap.Walk(ctx) {
		if err != nil {
			return err
		}
		if info.Kind != snapshot.Active {
			continue
		}
		s.mu.RLock()
		own := s.temporary[info.Key]
		s.mu.RUnlock()
		if ours := strings.HasPrefix(info.Key, unpackPrefix); ours && !own || !ours && orphan != nil && orphan(info.Key) {
			dead = append(dead, info.Key)
		}
	}
	for _, key := range dead {
		if err := s.snap.Remove(ctx, key); err != nil && errdefs.KindOf(err) != errdefs.NotFound {
			return err
		}
	}
	return nil
}
