package engine

import (
	"context"
	"errors"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	apiregistry "github.com/moby/moby/api/types/registry"

	"lade/internal/builtin"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/reference"
	"lade/internal/registry"
)

// ImagePull fetches an image, or with All every tag of a repository, from its
// registry. The built-in image needs none. Errors: Invalid for a bad
// reference, NotFound, Unauthorized, Unavailable, DataLoss for content that is
// not what it claims to be; then nothing of it is left but parts of blobs, with
// which the next pull goes on.
func (e *Engine) ImagePull(ctx context.Context, o PullOptions) error {
	ref, err := reference.Parse(o.Reference)
	if err != nil {
		return err
	}
	q := registry.PullOptions{Platform: o.Platform, Auth: o.Auth, Progress: image.Progress(o.Progress)}
	if o.All {
		all, err := e.Registry.PullAll(ctx, ref, q)
		for range all {
			e.publishImage(events.ActionPull, ref.Familiar(), ref.Familiar())
		}
		return err
	}
	ref = ref.WithDefaultTag()
	if builtin.Is(ref) {
		return e.pullBuiltin(ctx, ref, o.Progress)
	}
	if _, err := e.Registry.Pull(ctx, ref, q); err != nil {
		return err
	}
	e.publishImage(events.ActionPull, ref.Familiar(), ref.Familiar())
	return nil
}

// pullBuiltin makes the built-in image.
func (e *Engine) pullBuiltin(ctx context.Context, ref reference.Reference, p Progress) error {
	_, err := e.Images.Lookup(ref)
	had := err == nil
	if err := e.Builtin.Ensure(ctx); err != nil {
		return err
	}
	if p != nil {
		status := "Status: Made " + ref.Familiar() + " from the engine itself"
		if had {
			status = "Status: Image is up to date for " + ref.Familiar()
		}
		p(jsonstream.Message{Status: status})
	}
	e.publishImage(events.ActionPull, ref.Familiar(), ref.Familiar())
	return nil
}

// SystemAuth checks credentials with a registry.
func (e *Engine) SystemAuth(ctx context.Context, a apiregistry.AuthConfig) (apiregistry.AuthResponse, error) {
	if err := e.Registry.Login(ctx, a); err != nil {
		if errors.Is(err, errdefs.Unauthorized) || errors.Is(err, errdefs.Invalid) {
			return apiregistry.AuthResponse{}, err
		}
		return apiregistry.AuthResponse{}, errdefs.Internalf("login attempt to %s failed: %w", a.ServerAddress, err)
	}
	return apiregistry.AuthResponse{Status: "Login Succeeded"}, nil
}
