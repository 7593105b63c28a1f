package stats

import (
	"context"
	"slices"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/network"
)

// Usage is what a container has used, in the kernel's numbers.
type Usage struct {
	Record   *container.Record // not to be changed
	Group    *cgroup.Stats     // nil of one that does not run, or cannot be read
	Networks map[string]network.Counters
	Err      error // why numbers of it are missing, if it runs
}

// ContainersUsage reads all containers once, the oldest first. What ends
// meanwhile has no numbers; one that cannot be read does not hide the others.
// Errors: ctx's.
func (p *Sampler) ContainersUsage(ctx context.Context) ([]Usage, error) {
	all := p.host.All()
	out := make([]Usage, 0, len(all))
	for _, a := range slices.Backward(all) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		u := Usage{Record: a.View()}
		if u.Record.State.Alive() {
			if err := p.read(&u); err != nil && errdefs.KindOf(err) != errdefs.NotFound {
				u.Err = err
			}
		}
		out = append(out, u)
	}
	return out, nil
}

func (p *Sampler) read(u *Usage) error {
	g, err := p.host.Group(u.Record)
	if err != nil {
		return err
	}
	if u.Group, err = g.Stats(); err != nil {
		return err
	}
	// Who has joined another's network does not count it a second time.
	u.Networks, err = p.network.Stats(u.Record.ID)
	return err
}
