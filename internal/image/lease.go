package image

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"lade/internal/content"
	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/ids"
	"lade/internal/store"
)

// leaseLife is how long a lease protects after its owner has gone: what a cut
// pull has fetched is there when the user tries again the same day.
const leaseLife = 24 * time.Hour

// leaseRecord is a lease as it is stored.
type leaseRecord struct {
	Expires time.Time
	Blobs   []digest.Digest
	Chains  []digest.ChainID

	owned bool // by an operation of this process
}

func decodeLease(b []byte) (*leaseRecord, error) {
	l := new(leaseRecord)
	return l, json.Unmarshal(b, l)
}

func (l *leaseRecord) live(now time.Time) bool { return l.owned || now.Before(l.Expires) }

// Lease protects blobs and snapshots that no image refers to yet. It is for
// one operation, which must end it with Release or Keep.
type Lease struct {
	s  *Images
	id string
}

// Lasting continues the lease of that name, or begins it: one that has no end. It
// must be called before Collect, so that what it holds from before is not taken
// for garbage, and once.
func (s *Images) Lasting(name string) *Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.leases[name]
	if r == nil {
		r = &leaseRecord{}
		s.leases[name] = r
	}
	r.Expires, r.owned = lasting, true
	return &Lease{s: s, id: name}
}

// lasting is when a lease expires that does not: it is not for an operation but
// for what lives beside the engine.
var lasting = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// Set makes the lease hold these and nothing else, and deletes what only it
// protected of the others.
func (l *Lease) Set(ctx context.Context, blobs []digest.Digest, chains []digest.ChainID) error {
	var oldBlobs []digest.Digest
	var oldChains []digest.ChainID
	err := l.hold(func(r *leaseRecord) {
		oldBlobs, oldChains = r.Blobs, r.Chains
		r.Blobs, r.Chains = slices.Clone(blobs), slices.Clone(chains)
	})
	if err != nil {
		return err
	}
	_, err = l.s.sweep(ctx, oldBlobs, oldChains)
	return err
}

// Lease begins one.
func (s *Images) Lease() *Lease {
	l := &Lease{s: s, id: ids.New()}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leases[l.id] = &leaseRecord{Expires: time.Now().Add(leaseLife), owned: true}
	return l
}

// Hold protects blobs: from its return on they are not deleted if they exist,
// so the caller looks for them afterwards. The protection survives the death
// of the process. Holding twice is allowed.
func (l *Lease) Hold(blobs ...digest.Digest) error {
	return l.hold(func(r *leaseRecord) {
		for _, b := range blobs {
			if !slices.Contains(r.Blobs, b) {
				r.Blobs = append(r.Blobs, b)
			}
		}
	})
}

// HoldChains does for snapshots what Hold does for blobs.
func (l *Lease) HoldChains(chains ...digest.ChainID) error {
	return l.hold(func(r *leaseRecord) {
		for _, c := range chains {
			if !slices.Contains(r.Chains, c) {
				r.Chains = append(r.Chains, c)
			}
		}
	})
}

// Commit commits a writer and protects the new blob from its first moment on.
// Errors: those of content.Writer.Commit.
func (l *Lease) Commit(ctx context.Context, w *content.Writer) (digest.Digest, error) {
	l.s.sweeping.RLock()
	defer l.s.sweeping.RUnlock()
	d, err := w.Commit(ctx)
	if err != nil {
		return "", err
	}
	return d, l.holdUnswept(func(r *leaseRecord) { r.Blobs = append(r.Blobs, d) })
}

func (l *Lease) hold(change func(*leaseRecord)) error {
	l.s.sweeping.RLock()
	defer l.s.sweeping.RUnlock()
	return l.holdUnswept(change)
}

// holdUnswept is hold for a caller that holds sweeping.
func (l *Lease) holdUnswept(change func(*leaseRecord)) error {
	s := l.s
	s.mu.Lock()
	r := s.leases[l.id]
	if r == nil || !r.owned {
		s.mu.Unlock()
		return errdefs.Internalf("image: the lease has ended")
	}
	change(r)
	b, err := json.Marshal(r)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	var batch store.Batch
	batch.Put(bucketLeases, l.id, b)
	return s.store.Append(&batch)
}

// Keep ends the operation; what the lease holds stays until it expires.
func (l *Lease) Keep() {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if r := l.s.leases[l.id]; r != nil {
		r.owned = false
	}
}

// Release ends the lease and deletes what only it protected. After Release or
// Keep it does nothing, so it may be deferred.
func (l *Lease) Release(ctx context.Context) error {
	s := l.s
	s.mu.Lock()
	r := s.leases[l.id]
	if r == nil || !r.owned {
		s.mu.Unlock()
		return nil
	}
	delete(s.leases, l.id)
	s.mu.Unlock()
	var batch store.Batch
	batch.Delete(bucketLeases, l.id)
	if err := s.store.Append(&batch); err != nil {
		return err
	}
	_, err := s.sweep(ctx, r.Blobs, r.Chains)
	return err
}
