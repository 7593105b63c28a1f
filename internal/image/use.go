package image

import (
	"context"
	"encoding/json"
	"time"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/store"
)

// bucketUses is when images were last of use: image id → time.
const bucketUses store.Bucket = "uses"

// Use notes that an image is of use now. It writes nothing: SaveUses does.
func (s *Images) Use(id digest.Digest) {
	now := time.Now().UTC()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uses[id] = now
	s.unsaved[id] = true
}

// LastUsed returns when an image was last of use: by Use, or when it came here or
// got a name. What a crash forgot of the last minute only makes it older.
func (s *Images) LastUsed(img *Image) time.Time {
	s.mu.RLock()
	last := s.uses[img.ID]
	s.mu.RUnlock()
	for _, t := range []time.Time{img.Added, img.Tagged} {
		if t.After(last) {
			last = t
		}
	}
	return last
}

// SaveUses writes what Use noted since the last time, without waiting for the
// disk.
func (s *Images) SaveUses() error {
	var b store.Batch
	s.mu.Lock()
	for id := range s.unsaved {
		if _, there := s.images[id]; !there {
			delete(s.uses, id)
			b.Delete(bucketUses, id.String())
			continue
		}
		raw, err := json.Marshal(s.uses[id])
		if err != nil {
			s.mu.Unlock()
			return err
		}
		b.Put(bucketUses, id.String(), raw)
	}
	clear(s.unsaved)
	s.mu.Unlock()
	if b.Len() == 0 {
		return nil
	}
	return s.store.Append(&b)
}

// loadUses reads them back.
func (s *Images) loadUses() {
	for id, raw := range s.store.Walk(bucketUses) {
		var t time.Time
		if err := json.Unmarshal(raw, &t); err != nil {
			s.log.Error("time of an image's last use", "image", id, "error", err)
			continue
		}
		d := digest.Digest(id)
		s.uses[d] = t
		if _, there := s.images[d]; !there {
			s.unsaved[d] = true // its record goes with the next SaveUses
		}
	}
}

// Children returns the images that were made here from an image.
func (s *Images) Children(id digest.Digest) []digest.Digest { return s.children(id) }

// Discard removes an image with all its names, whatever they are, unless a
// container uses it or an image was made from it. Errors: NotFound, Conflict.
func (s *Images) Discard(ctx context.Context, id digest.Digest, users Users) ([]Removed, Freed, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	img, err := s.Get(id)
	if err != nil {
		return nil, Freed{}, err
	}
	if u := users(id); len(u) > 0 {
		return nil, Freed{}, errdefs.Conflictf("image %s is in use by container %s", img.ID.Short(), u[0].Container)
	}
	if len(s.children(id)) > 0 {
		return nil, Freed{}, errdefs.Conflictf("image %s has dependent child images", img.ID.Short())
	}
	return s.delete(ctx, img)
}
