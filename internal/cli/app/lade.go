package app

import (
	"context"
	"fmt"

	moby "github.com/moby/moby/client"

	"lade/client"
)

// Lade returns both ways to ask the engine, for a command whose operations
// Docker's API does not have. Errors: another engine than lade's.
func (e *Env) Lade(ctx context.Context) (*moby.Client, *client.Endpoint, error) {
	api, err := e.API()
	if err != nil {
		return nil, nil, err
	}
	if err := NeedLade(ctx, api, "this command needs"); err != nil {
		return nil, nil, err
	}
	ep, err := e.Endpoint()
	return api, ep, err
}

// NeedLade refuses another engine than lade's, which would ignore without a word
// what it does not know: an open port, where a list of sources was given. who
// says what is asked for, with its verb: "--publish-add needs".
func NeedLade(ctx context.Context, api *moby.Client, who string) error {
	v, err := api.ServerVersion(ctx, moby.ServerVersionOptions{})
	if err != nil {
		return err
	}
	if v.Platform.Name != Name {
		return fmt.Errorf("%s the engine of lade; this one is %s", who, engineName(v))
	}
	return nil
}

// engineName is what an engine calls itself.
func engineName(v moby.ServerVersionResult) string {
	if v.Platform.Name != "" {
		return v.Platform.Name
	}
	return "version " + v.Version
}
