package container

import (
	"context"

	"github.com/moby/moby/api/types/events"
)

// Amend is Update for more than limits. change is given a copy of the record,
// with configurations of its own, and changes what is asked for in it. Of a
// container that runs apply then makes true what can be: outside the loop, after
// which undo takes it back. Either all of it is so and is recorded, or nothing.
func (a *Actor) Amend(ctx context.Context, change func(*Record) error, apply func(context.Context, *Record) (undo func(), err error)) error {
	return a.call(ctx, func(reply func(error)) {
		a.idle(func() {
			next := a.rec
			hc, config := *a.rec.HostConfig, *a.rec.Config
			next.HostConfig, next.Config = &hc, &config
			if err := change(&next); err != nil {
				reply(err)
				return
			}
			if !a.rec.State.Alive() {
				reply(a.commit(next, true, events.ActionUpdate, nil))
				return
			}
			asked := next
			var undo func()
			a.outside(func(ctx context.Context) (err error) {
				undo, err = apply(ctx, &asked)
				return err
			}, func(err error) {
				if err == nil {
					next := a.rec // it may have ended meanwhile
					next.HostConfig, next.Config, next.NetRates, next.Mounts = asked.HostConfig, asked.Config, asked.NetRates, asked.Mounts
					if err = a.commit(next, true, events.ActionUpdate, nil); err != nil {
						undo()
					}
				}
				reply(err)
			})
		})
	})
}
