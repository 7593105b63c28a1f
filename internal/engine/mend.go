package engine

import (
	"context"
	"os"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
)

// visitNetwork is network.Visit: it lets f work in a container's network
// namespace, in the container's turn and in the background. What f says of one
// that ended meanwhile is of no interest.
func (e *Engine) visitNetwork(id string, f func(context.Context, *os.File) error) {
	a, err := e.containers.find(id)
	if err != nil {
		return
	}
	running := func(r *container.Record) error {
		if !r.State.Alive() {
			return errdefs.Conflictf("container %s is not running", id)
		}
		return nil
	}
	e.work.Go(func() {
		err := a.Reconnect(e.ctx, running, func(ctx context.Context, r *container.Record) error {
			ns, err := e.openNetNS(r)
			if err != nil {
				return err
			}
			defer ns.Close()
			return f(ctx, ns)
		})
		if err != nil && errdefs.KindOf(err) != errdefs.Conflict && e.ctx.Err() == nil {
			e.log.Warn("the network of a container cannot be mended", "container", id, "error", err)
		}
	})
}
