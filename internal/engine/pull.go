package engine

import (
	"context"

	apiregistry "github.com/moby/moby/api/types/registry"

	"lade/internal/errdefs"
)

// Builtin is the image that needs no registry.
type Builtin interface {
	// Ensure makes the image if it is not there.
	Ensure(ctx context.Context) error
}

// Puller fetches images.
type Puller interface {
	ServiceConfig() *apiregistry.ServiceConfig
}

func (e *Engine) pull(ctx context.Context, o PullOptions) (id, ref string, err error) {
	return "", "", errdefs.NotImplementedf("pull is not implemented")
}
