package engine

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/events"
	apiimage "github.com/moby/moby/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/digest"
	"lade/internal/engine/container"
	"lade/internal/engine/prune"
	"lade/internal/filters"
	"lade/internal/image"
	"lade/internal/reference"
)

// imageOf returns the image that a container was made from.
func (e *viewer) imageOf(r *container.Record) (*image.Image, error) {
	d, err := digest.Parse(r.ImageID)
	if err != nil {
		return nil, err
	}
	return e.Images.Get(d)
}

// manifestOf returns an image's manifest with its platform, nil for no image.
func manifestOf(img *image.Image) *ocispec.Descriptor {
	if img == nil {
		return nil
	}
	d, p := img.Manifest, img.Platform()
	d.Platform = &p
	return &d
}

// users returns the containers that were made from an image.
func (e *viewer) users(id digest.Digest) []image.User {
	var out []image.User
	for _, a := range e.containers.all() {
		if r := a.View(); r.State != container.Gone && uses(r, id.String()) {
			out = append(out, image.User{Container: r.ID, Running: r.State.Alive()})
		}
	}
	return out
}

// uses reports whether a container was made from an image or mounts it.
func uses(r *container.Record, id string) bool {
	return r.ImageID == id || slices.ContainsFunc(r.Mounts, func(m container.Mount) bool { return m.ImageID == id })
}

// imageFilters are the filters that an image list understands.
var imageFilters = [...]string{"dangling", "label", "before", "since", "reference", "until"}

// ImageList returns the images, newest first. Of those under one name for
// several platforms it returns the one that the name means here, unless all are
// wanted. Errors: Invalid for a bad filter.
func (e *Engine) ImageList(_ context.Context, o ImageListOptions) ([]apiimage.Summary, error) {
	f := o.Filters
	if err := f.Validate(imageFilters[:]...); err != nil {
		return nil, err
	}
	dangling, err := f.Bool("dangling", false)
	if err != nil {
		return nil, err
	}
	var until time.Time // the earliest of several
	for _, u := range f["until"] {
		t, err := prune.Until(filters.Args{"until": {u}})
		if err != nil {
			return nil, err
		}
		if until.IsZero() || t.Before(until) {
			until = t
		}
	}
	bounds := map[string]time.Time{}
	for _, key := range []string{"before", "since"} {
		for _, name := range f[key] {
			img, err := e.Images.Resolve(name)
			if err != nil {
				return nil, err
			}
			bounds[key] = img.Created
		}
	}
	out := []apiimage.Summary{}
	for _, img := range e.Images.List() {
		before, hasBefore := bounds["before"]
		since, hasSince := bounds["since"]
		switch {
		case f.Has("dangling") && dangling != (len(img.Names) == 0),
			!f.Labels("label", img.Config.Config.Labels),
			hasBefore && !img.Created.Before(before),
			hasSince && !img.Created.After(since),
			!until.IsZero() && !img.Created.Before(until),
			!o.All && e.secondary(img):
			continue
		}
		s := e.imageSummary(img, f)
		if o.Manifests {
			if s.Manifests, err = e.manifests(img); err != nil {
				return nil, err
			}
		}
		if f.Has("reference") && len(s.RepoTags) == 0 && len(s.RepoDigests) == 0 {
			continue
		}
		out = append(out, s)
	}
	slices.SortStableFunc(out, func(a, b apiimage.Summary) int { return int(b.Created - a.Created) })
	return out, nil
}

// imageSummary is an image as lists show it, with the names that match.
func (e *viewer) imageSummary(img *image.Image, f filters.Args) apiimage.Summary {
	d := img.Target
	s := apiimage.Summary{
		ID: img.ID.String(), Containers: -1, SharedSize: -1, Size: img.Size, Created: img.Created.Unix(), Labels: img.Config.Config.Labels,
		ParentID: img.Parent.String(), RepoTags: []string{}, RepoDigests: []string{}, Descriptor: &d,
	}
	if img.Created.IsZero() {
		s.Created = 0
	}
	for _, n := range img.Names {
		if matchesReference(f, n) {
			s.RepoTags = append(s.RepoTags, n.Familiar())
		}
	}
	for _, n := range img.Digests {
		if matchesReference(f, n) {
			s.RepoDigests = append(s.RepoDigests, n.Familiar())
		}
	}
	return s
}

// matchesReference applies the filter reference: a pattern on the name, with
// or without tag.
func matchesReference(f filters.Args, n reference.Reference) bool {
	name := n.Familiar()
	repo, _, _ := strings.Cut(name, "@")
	if i := strings.LastIndexByte(repo, ':'); i > strings.LastIndexByte(repo, '/') {
		repo = repo[:i]
	}
	return f.Glob("reference", name) || f.Glob("reference", repo) || f.Glob("reference", n.String()) || f.Glob("reference", n.Name())
}

// ImageInspect returns all that is known of an image.
func (e *Engine) ImageInspect(_ context.Context, name string, platform *ocispec.Platform) (*apiimage.InspectResponse, error) {
	img, err := e.image(name, platform)
	if err != nil {
		return nil, err
	}
	d, p := img.Target, img.Platform()
	out := &apiimage.InspectResponse{
		ID: img.ID.String(), RepoTags: []string{}, RepoDigests: []string{}, Author: img.Config.Author, Config: &img.Config.Config,
		Architecture: p.Architecture, Variant: p.Variant, Os: p.OS, OsVersion: p.OSVersion, Size: img.Size,
		RootFS: apiimage.RootFS{Type: "layers"}, Metadata: apiimage.Metadata{LastTagTime: img.Tagged}, Descriptor: &d,
		GraphDriver: e.graphDriver(context.Background(), img.Top()),
	}
	if !img.Created.IsZero() {
		out.Created = img.Created.Format(time.RFC3339Nano)
	}
	if h := img.Config.History; len(h) > 0 {
		out.Comment = h[len(h)-1].Comment
	}
	for _, n := range img.Names {
		out.RepoTags = append(out.RepoTags, n.Familiar())
	}
	for _, n := range img.Digests {
		out.RepoDigests = append(out.RepoDigests, n.Familiar())
	}
	for _, l := range img.Layers {
		out.RootFS.Layers = append(out.RootFS.Layers, string(l.DiffID))
	}
	if out.Manifests, err = e.manifests(img); err != nil {
		return nil, err
	}
	return out, nil
}

// image resolves a name, for a platform if one was asked for.
func (e *Engine) image(name string, platform *ocispec.Platform) (*image.Image, error) {
	return e.Images.ResolveFor(name, platform)
}

// ImageHistory returns the steps that an image was made by, newest first.
func (e *Engine) ImageHistory(_ context.Context, name string, platform *ocispec.Platform) ([]apiimage.HistoryResponseItem, error) {
	img, err := e.image(name, platform)
	if err != nil {
		return nil, err
	}
	out := []apiimage.HistoryResponseItem{}
	layer := 0
	for _, h := range img.Config.History {
		item := apiimage.HistoryResponseItem{ID: "<missing>", CreatedBy: h.CreatedBy, Comment: h.Comment}
		if h.Created != nil {
			item.Created = h.Created.Unix()
		}
		if !h.EmptyLayer && layer < len(img.Layers) {
			item.Size = img.Layers[layer].Size
			layer++
		}
		out = append(out, item)
	}
	slices.Reverse(out)
	if len(out) > 0 {
		out[0].ID = img.ID.String()
		for _, n := range img.Names {
			out[0].Tags = append(out[0].Tags, n.Familiar())
		}
	}
	return out, nil
}

// ImageTag gives an image another name.
func (e *Engine) ImageTag(ctx context.Context, name, repo, tag string) error {
	full := repo
	if tag != "" {
		full += ":" + tag
	}
	ref, err := reference.Parse(full)
	if err != nil {
		return err
	}
	img, err := e.Images.Tag(ctx, name, ref)
	if err != nil {
		return err
	}
	e.PublishImage(events.ActionTag, img.ID.String(), ref.Familiar())
	return nil
}

// ImageRemove removes a name, and with the last one the image. Errors:
// NotFound, Conflict while a container uses it.
func (e *Engine) ImageRemove(ctx context.Context, name string, o ImageRemoveOptions) ([]apiimage.DeleteResponse, error) {
	removed, err := e.Images.Remove(ctx, name, image.RemoveOptions{Force: o.Force, NoPrune: o.NoPrune, Platforms: o.Platforms}, e.users)
	return e.deleted(removed), err
}

// deleted tells the event log of removed images, and puts them in the API's
// words.
func (e *viewer) deleted(removed []image.Removed) []apiimage.DeleteResponse {
	out := []apiimage.DeleteResponse{}
	for _, r := range removed {
		out = append(out, apiimage.DeleteResponse{Untagged: r.Untagged, Deleted: r.Deleted})
		if r.Image == "" {
			continue
		}
		action := events.ActionDelete
		if r.Untagged != "" {
			action = events.ActionUnTag
		}
		e.PublishImage(action, r.Image.String(), r.Image.String())
	}
	return out
}
