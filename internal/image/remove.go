package image

import (
	"context"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/ids"
	"lade/internal/oci"
	"lade/internal/reference"
	"lade/internal/store"
)

// User is a container that was made from an image.
type User struct {
	Container string // id
	Running   bool
}

// Users returns the containers that were made from an image.
type Users func(id digest.Digest) []User

// Removed is one step of a removal, in the words of clients: a name, an image
// id or a ChainID.
type Removed struct {
	Untagged string        // "busybox:latest"
	Deleted  string        // "sha256:…"
	Image    digest.Digest // it was an image that was untagged or deleted; "" for a layer
}

// RemoveOptions changes what Remove does.
type RemoveOptions struct {
	Force     bool               // despite stopped containers and further names
	NoPrune   bool               // keep parents that have no name
	Platforms []ocispec.Platform // of a name: only the images for these
}

// Remove removes a name, and with an image's last name, or by id, the image.
//
// The rules are Docker's: a reference is removed alone as long as others are
// left; the last one, like an id, removes the image unless a container uses it
// (a stopped one can be forced). A name of several platforms is removed from
// all their images, or from those of the platforms that the options name.
// Errors: NotFound, Conflict, in Docker's words; then nothing was removed.
func (s *Images) Remove(ctx context.Context, name string, o RemoveOptions, users Users) ([]Removed, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	img, ref, err := s.resolve(name)
	if err != nil {
		return nil, err
	}
	all := []*Image{img}
	if ref != nil {
		if all, err = s.Variants(*ref); err != nil {
			return nil, err
		}
	}
	if all, err = chosen(all, name, o.Platforms); err != nil {
		return nil, err
	}
	var steps []func() ([]Removed, error)
	for _, img := range all {
		step, err := s.plan(ctx, img, name, ref, o, users)
		if err != nil {
			return nil, err
		}
		steps = append(steps, step)
	}
	var out []Removed
	for _, step := range steps {
		more, err := step()
		out = append(out, more...)
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// chosen are those of the images that are for exactly these platforms, all
// without any. Errors: NotFound.
func chosen(all []*Image, name string, platforms []ocispec.Platform) ([]*Image, error) {
	if len(platforms) == 0 {
		return all, nil
	}
	var out []*Image
	for _, p := range platforms {
		want := oci.FormatPlatform(oci.Normalize(p))
		i := slices.IndexFunc(all, func(img *Image) bool { return oci.FormatPlatform(img.Platform()) == want })
		if i < 0 {
			return nil, errdefs.NotFoundf("image with reference %s was found but does not provide the specified platform (%s)", name, want)
		}
		if !slices.Contains(out, all[i]) {
			out = append(out, all[i])
		}
	}
	return out, nil
}

// plan returns how an image is removed, or loses ref. Errors: Conflict.
func (s *Images) plan(ctx context.Context, img *Image, name string, ref *reference.Reference, o RemoveOptions, users Users) (func() ([]Removed, error), error) {
	refs := slices.Concat(img.Names, img.Digests)
	oneName := single(refs)
	if ref != nil {
		if !o.Force && oneName {
			if u := users(img.ID); len(u) > 0 {
				return nil, errdefs.Conflictf("conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s",
					name, ids.Truncate(u[0].Container), img.ID.Short())
			}
		}
		gone := untagWith(refs, *ref)
		if len(gone) < len(refs) {
			return func() ([]Removed, error) { return s.untag(ctx, img, gone) }, nil
		}
		oneName = true
	}
	if err := s.conflict(img, o.Force, oneName, users); err != nil {
		return nil, err
	}
	return func() ([]Removed, error) { return s.removeImage(ctx, img, o, users, oneName) }, nil
}

// untagWith returns the references that go with ref: itself, and after the
// last tag of a repository the digests of that repository.
func untagWith(refs []reference.Reference, ref reference.Reference) []reference.Reference {
	if ref.Digest != "" {
		ref.Tag = ""
		return []reference.Reference{ref}
	}
	gone := []reference.Reference{ref}
	for _, r := range refs {
		if r.Name() != ref.Name() || r == ref {
			continue
		}
		if r.Digest == "" {
			return []reference.Reference{ref}
		}
		gone = append(gone, r)
	}
	return gone
}

// single reports whether refs are one name: at most one tag, and digests of
// that tag's repository only.
func single(refs []reference.Reference) bool {
	if len(refs) == 0 {
		return false
	}
	tags := 0
	for _, r := range refs {
		if r.Digest == "" {
			tags++
		}
		if r.Name() != refs[0].Name() {
			return false
		}
	}
	return tags <= 1
}

// take puts into a batch that an image loses names, and returns what each then
// stands for, the names that are gone, and what those stood for in the registry.
// The caller holds writing.
func (s *Images) take(batch *store.Batch, img *Image, refs []reference.Reference) (left map[reference.Reference]name, out []Removed, targets []digest.Digest, err error) {
	left = map[reference.Reference]name{}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, r := range refs {
		n := s.names[r].without(img.ID)
		left[r] = n
		if len(n.Images) > 0 { // it stands for others
			if err := n.put(batch, r); err != nil {
				return nil, nil, nil, err
			}
			continue
		}
		batch.Delete(bucketNames, r.String())
		out = append(out, Removed{Untagged: r.Familiar(), Image: img.ID})
		if n.Target.Digest != "" {
			targets = append(targets, digest.Digest(n.Target.Digest))
		}
	}
	return left, out, targets, nil
}

// takenLocked makes visible what take has made of names.
func (s *Images) takenLocked(left map[reference.Reference]name) {
	for r, n := range left {
		if len(n.Images) == 0 {
			delete(s.names, r)
		} else {
			s.names[r] = n
		}
	}
}

// untag removes names that leave the image with others. The caller holds writing.
func (s *Images) untag(ctx context.Context, img *Image, refs []reference.Reference) ([]Removed, error) {
	var batch store.Batch
	left, out, targets, err := s.take(&batch, img, refs)
	if err != nil {
		return nil, err
	}
	if err := s.store.Commit(ctx, &batch); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.takenLocked(left)
	for _, r := range refs {
		img = img.named(r, false)
	}
	s.images[img.ID] = img
	s.mu.Unlock()
	if _, err := s.sweep(context.WithoutCancel(ctx), targets, nil); err != nil {
		s.log.Warn("sweep after removing a name", "image", img.ID, "error", err)
	}
	return out, nil
}

// conflict returns why an image cannot be removed, nil if it can. oneName says
// that its names are one and go with it.
func (s *Images) conflict(img *Image, force, oneName bool, users Users) error {
	refuse := func(how, format string, a ...any) error {
		return errdefs.Conflictf("conflict: unable to delete %s (%s) - "+format, append([]any{img.ID.Short(), how}, a...)...)
	}
	if len(s.children(img.ID)) > 0 {
		return refuse("cannot be forced", "image has dependent child images")
	}
	using := users(img.ID)
	for _, u := range using {
		if u.Running {
			return refuse("cannot be forced", "image is being used by running container %s", ids.Truncate(u.Container))
		}
	}
	if force {
		return nil
	}
	if !oneName && len(img.Names)+len(img.Digests) > 1 {
		return refuse("must be forced", "image is referenced in multiple repositories")
	}
	if len(using) > 0 {
		return refuse("must be forced", "image is being used by stopped container %s", ids.Truncate(using[0].Container))
	}
	return nil
}

// children returns the images that were made here from an image.
func (s *Images) children(id digest.Digest) []digest.Digest {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []digest.Digest
	for _, img := range s.images {
		if img.Parent == id {
			out = append(out, img.ID)
		}
	}
	return out
}

// removeImage removes an image with all its names, then its nameless parents.
// The caller holds writing.
func (s *Images) removeImage(ctx context.Context, img *Image, o RemoveOptions, users Users, oneName bool) ([]Removed, error) {
	if err := s.conflict(img, o.Force, oneName, users); err != nil {
		return nil, err
	}
	out, _, err := s.delete(ctx, img)
	if err != nil {
		return nil, err
	}
	for parent := img.Parent; parent != "" && !o.NoPrune; {
		p, err := s.Get(parent)
		if err != nil || len(p.Names)+len(p.Digests) > 0 || s.conflict(p, false, true, users) != nil {
			break
		}
		more, _, err := s.delete(ctx, p)
		if err != nil {
			return out, err
		}
		out, parent = append(out, more...), p.Parent
	}
	return out, nil
}

// delete removes the record and the names, then sweeps what they needed. The
// caller holds writing.
func (s *Images) delete(ctx context.Context, img *Image) ([]Removed, Freed, error) {
	var batch store.Batch
	left, out, targets, err := s.take(&batch, img, slices.Concat(img.Names, img.Digests))
	if err != nil {
		return nil, Freed{}, err
	}
	batch.Delete(bucketImages, string(img.ID))
	if err := s.store.Commit(ctx, &batch); err != nil {
		return nil, Freed{}, err
	}
	failpoint.Hit("image.removed")
	s.mu.Lock()
	s.takenLocked(left)
	delete(s.images, img.ID)
	if _, noted := s.uses[img.ID]; noted {
		s.unsaved[img.ID] = true
	}
	s.mu.Unlock()
	out = append(out, Removed{Deleted: string(img.ID), Image: img.ID})
	// The image is gone: what cannot be swept now is found by Collect.
	freed, err := s.sweep(context.WithoutCancel(ctx), append(targets, img.Blobs()...), append(slices.Clone(img.ChainIDs), img.Ground()))
	if err != nil {
		s.log.Warn("sweep after removing an image", "image", img.ID, "error", err)
	}
	for _, c := range freed.Chains {
		if c == img.Ground() {
			continue // no layer of the image
		}
		out = append(out, Removed{Deleted: string(c)})
	}
	return out, freed, nil
}

// Prune removes the images for which match is true and that no container uses.
// With danglingOnly, only those without a name. It also deletes what nothing
// needs any more, as Collect does. It returns which images were removed and how
// many bytes were freed.
func (s *Images) Prune(ctx context.Context, danglingOnly bool, match func(*Image) bool, users Users) ([]Removed, int64, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	var out []Removed
	var bytes int64
	for again := true; again; { // a parent can go once its children have
		again = false
		for _, img := range s.List() {
			if err := context.Cause(ctx); err != nil {
				return out, bytes, err
			}
			if danglingOnly && len(img.Names) > 0 || match != nil && !match(img) || len(users(img.ID)) > 0 || len(s.children(img.ID)) > 0 {
				continue
			}
			removed, freed, err := s.delete(ctx, img)
			if err != nil {
				return out, bytes, err
			}
			out, bytes, again = append(out, removed...), bytes+freed.Bytes, true
		}
	}
	// Who asks for space also gets what cut pulls left more than a day ago.
	freed, err := s.Collect(ctx, nil)
	return out, bytes + freed.Bytes, err
}
