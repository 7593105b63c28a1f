package container

import (
	"context"
	"net/url"

	"github.com/moby/moby/api/types/container"
	moby "github.com/moby/moby/client"

	"lade/internal/cli/app"
	"lade/internal/netrate"
)

// extended is an update with what lade has beside Docker's fields.
type extended struct {
	container.UpdateConfig
	netrate.Asked
	changes
	republishing
}

// own reports whether there is anything that only lade understands.
func (u *extended) own() bool {
	return u.Asked != (netrate.Asked{}) || u.changes.any() || !u.republishing.empty()
}

// send changes a container.
func (u *extended) send(ctx context.Context, e *app.Env, api *moby.Client, id string) (warnings []string, err error) {
	if !u.own() {
		res, err := api.ContainerUpdate(ctx, id, moby.ContainerUpdateOptions{Resources: &u.Resources, RestartPolicy: &u.RestartPolicy})
		return res.Warnings, err
	}
	ep, err := e.Endpoint()
	if err != nil {
		return nil, err
	}
	var res changed
	if err = ep.Post(ctx, api, "/containers/"+url.PathEscape(id)+"/update", u, &res); err == nil {
		res.tell(e, id)
	}
	return res.Warnings, err
}
