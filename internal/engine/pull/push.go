package pull

import (
	"context"

	"github.com/moby/moby/api/types/events"
	apiregistry "github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/reference"
	"lade/internal/registry"
)

// PushOptions is the request of ImagePush.
type PushOptions struct {
	Reference string // name, with a tag unless All
	All       bool   // every tag of the repository
	Platform  *ocispec.Platform
	Auth      *apiregistry.AuthConfig // nil: anonymous
	Progress  Progress
}

// ImagePush sends an image, or with All every tag of a repository, to its
// registry. Errors: Invalid for a bad reference, NotFound, Unauthorized,
// Forbidden, Unavailable, Exhausted, DataLoss.
func (p *Puller) ImagePush(ctx context.Context, o PushOptions) error {
	ref, err := reference.Parse(o.Reference)
	if err != nil {
		return err
	}
	refs := []reference.Reference{ref.WithDefaultTag()}
	if o.All {
		if !ref.NameOnly() {
			return errdefs.Invalidf("tag can't be used with --all-tags/-a")
		}
		if refs = p.c.Images.Tags(ref); len(refs) == 0 {
			return errdefs.NotFoundf("An image does not exist locally with the tag: %s", ref.FamiliarName())
		}
	}
	for _, r := range refs {
		if _, err := p.c.Registry.Client().Push(ctx, r, registry.PushOptions{Platform: o.Platform, Auth: o.Auth, Progress: o.Progress}); err != nil {
			return err
		}
		p.c.Publish(events.ActionPush, r.Familiar(), r.FamiliarName())
	}
	return nil
}

// DistributionInspect tells what a registry has under a reference. Errors:
// Invalid, NotFound, Unauthorized, Unavailable.
func (p *Puller) DistributionInspect(ctx context.Context, name string, a *apiregistry.AuthConfig) (*apiregistry.DistributionInspect, error) {
	ref, err := reference.Parse(name)
	if err != nil {
		return nil, err
	}
	return p.c.Registry.Client().Inspect(ctx, ref, a)
}
