package image

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/oci"
	"lade/internal/reference"
	"lade/internal/store"
)

// name is what a reference stands for: an image, or those of an index that are
// here, one for each platform.
type name struct {
	Images []digest.Digest    // the last one that came is first
	Target ocispec.Descriptor // in the registry: the index, or the manifest
}

func decodeName(b []byte) (n name, err error) {
	if d, derr := digest.Parse(string(b)); derr == nil {
		return name{Images: []digest.Digest{d}}, nil // of a name with one image, before there were others
	}
	return n, json.Unmarshal(b, &n)
}

func (n name) put(batch *store.Batch, ref reference.Reference) error {
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	batch.Put(bucketNames, ref.String(), b)
	return nil
}

// without is the name after an image has lost it.
func (n name) without(id digest.Digest) name {
	n.Images = slices.DeleteFunc(slices.Clone(n.Images), func(d digest.Digest) bool { return d == id })
	return n
}

// givenLocked is what a reference stands for once it is given to an image of
// target: that image alone, or beside those of the same index for other
// platforms.
func (s *Images) givenLocked(ref reference.Reference, img *Image, target ocispec.Descriptor) name {
	n := name{Images: []digest.Digest{img.ID}, Target: target}
	old := s.names[ref]
	if !oci.IsIndex(target.MediaType) || old.Target.Digest != target.Digest {
		return n
	}
	platform := oci.FormatPlatform(img.Platform())
	for _, id := range old.Images {
		if other := s.images[id]; id != img.ID && other != nil && oci.FormatPlatform(other.Platform()) != platform {
			n.Images = append(n.Images, id)
		}
	}
	return n
}

// publishLocked makes img and what names stand for visible.
func (s *Images) publishLocked(img *Image, names map[reference.Reference]name) *Image {
	s.images[img.ID] = img
	for ref, n := range names {
		for _, id := range s.names[ref].Images {
			if old := s.images[id]; old != nil && !slices.Contains(n.Images, id) {
				s.images[id] = old.named(ref, false)
			}
		}
		s.names[ref] = n
		for _, id := range n.Images {
			if i := s.images[id]; i != nil {
				s.images[id] = i.named(ref, true)
			}
		}
	}
	return s.images[img.ID]
}

// Best returns the one of the images that fits a platform best, nil if none
// does.
func Best(list []*Image, want ocispec.Platform) *Image {
	var best *Image
	rank := -1
	for _, img := range list {
		if r := oci.Rank(want, img.Platform()); r >= 0 && (rank < 0 || r < rank) {
			best, rank = img, r
		}
	}
	return best
}

// Variants returns the images that a reference stands for, one for each
// platform: the one that the reference means here first. Errors: NotFound.
func (s *Images) Variants(ref reference.Reference) ([]*Image, error) {
	ref = ref.WithDefaultTag()
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := s.variantsLocked(ref)
	if len(all) == 0 {
		return nil, errdefs.NotFoundf("No such image: %s", ref.Familiar())
	}
	return all, nil
}

// keyOf is the reference as a name has it: a digest says all, a tag beside it is
// decoration.
func keyOf(ref reference.Reference) reference.Reference {
	if ref.Digest != "" {
		ref.Tag = ""
	}
	return ref.WithDefaultTag()
}

func (s *Images) variantsLocked(ref reference.Reference) []*Image {
	var all []*Image
	for _, id := range s.names[keyOf(ref)].Images {
		if img := s.images[id]; img != nil {
			all = append(all, img)
		}
	}
	if len(all) > 1 {
		if i := slices.Index(all, Best(all, oci.Host())); i > 0 {
			all[0], all[i] = all[i], all[0]
		}
	}
	return all
}

// Target returns what a reference stands for in its registry. Errors: NotFound.
func (s *Images) Target(ref reference.Reference) (ocispec.Descriptor, error) {
	all, err := s.Variants(ref)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if t := s.names[keyOf(ref)].Target; t.Digest != "" {
		return t, nil
	}
	return all[0].Target, nil
}

// ResolveFor is Resolve for a platform: of the images that a reference stands
// for, the one that fits best. Errors: as Resolve, NotFound in Docker's words if
// none fits.
func (s *Images) ResolveFor(name string, platform *ocispec.Platform) (*Image, error) {
	img, ref, err := s.resolve(name)
	if err != nil || platform == nil {
		return img, err
	}
	all := []*Image{img}
	if ref != nil {
		if all, err = s.Variants(*ref); err != nil {
			return nil, err
		}
	}
	if img = Best(all, *platform); img == nil {
		return nil, errdefs.NotFoundf("image with reference %s was found but does not provide the specified platform (%s)", name, oci.FormatPlatform(*platform))
	}
	return img, nil
}

// Pushed notes that a registry has images that a tag stands for under a digest,
// which is that of target. It does nothing when target is not stored. Errors:
// NotFound for an image that is gone.
func (s *Images) Pushed(ctx context.Context, ref reference.Reference, target ocispec.Descriptor, images []*Image) error {
	d := digest.Digest(target.Digest)
	if _, err := s.content.Stat(d); errdefs.KindOf(err) == errdefs.NotFound {
		return nil // an index that was made for the push
	} else if err != nil {
		return err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	n := name{Target: target}
	for _, img := range images {
		if _, err := s.Get(img.ID); err != nil {
			return err
		}
		n.Images = append(n.Images, img.ID)
	}
	ref = keyOf(ref.WithDigest(d))
	var batch store.Batch
	if err := n.put(&batch, ref); err != nil {
		return err
	}
	if err := s.store.Commit(ctx, &batch); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.publishLocked(s.images[n.Images[0]], map[reference.Reference]name{ref: n})
	return nil
}

// Tags returns the names with a tag that a repository has here, sorted.
func (s *Images) Tags(repo reference.Reference) []reference.Reference {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []reference.Reference
	for r := range s.names {
		if r.Digest == "" && r.Name() == repo.Name() {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b reference.Reference) int { return strings.Compare(a.Tag, b.Tag) })
	return out
}
