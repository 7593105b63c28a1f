package container

import (
	"context"
	"maps"

	"lade/internal/errdefs"
)

// Reconnect changes the networks of the container: change is given a copy of the
// record with a map of its own, and changes what is asked for in it. While a
// process runs, act connects it first; then the record is written. Errors:
// Conflict for a container that is being removed, and what the two say; then
// nothing has changed.
func (a *Actor) Reconnect(ctx context.Context, change func(*Record) error, act func(context.Context, *Record) error) error {
	return a.call(ctx, func(reply func(error)) {
		a.idle(func() {
			next := a.rec
			next.Networks = maps.Clone(a.rec.Networks)
			err := change(&next)
			switch s := a.rec.State; {
			case s == Removing || s == Dead:
				err = errdefs.Conflictf("container %s is marked for removal and cannot be connected or disconnected to the network", a.id)
			case err == nil && s.Alive():
				a.outside(func(ctx context.Context) error { return act(ctx, &next) }, func(err error) {
					if err == nil {
						now := a.rec // it may have ended meanwhile
						now.Networks = next.Networks
						err = a.commit(now, true, "", nil)
					}
					reply(err)
				})
				return
			case err == nil:
				err = a.commit(next, true, "", nil)
			}
			reply(err)
		})
	})
}
