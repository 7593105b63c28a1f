package container

import (
	"context"
	"maps"

	"github.com/moby/moby/api/types/container"
	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/opt"
	"lade/internal/netrate"
)

// rates are the flags that limit a container's network.
type rates struct {
	set     *pflag.FlagSet
	in, out netrate.Bits
	burst   opt.Bytes
}

func newRates(f *pflag.FlagSet) *rates {
	r := &rates{set: f}
	f.Var(&r.in, "net-rate-in", "Limit what the container receives (bits per second, e.g. 100mbit; 0 for no limit)")
	f.Var(&r.out, "net-rate-out", "Limit what the container sends (bits per second, e.g. 10mbit; 0 for no limit)")
	f.Var(&r.burst, "net-burst", "What may exceed a network rate at once after a pause (0 for as much as the rate needs)")
	opt.Own(f, "net-rate-in", "net-rate-out", "net-burst")
	return r
}

// asked is what the flags say.
func (r *rates) asked() (a netrate.Asked) {
	if r.set.Changed("net-rate-in") {
		a.NetRateIn = &r.in
	}
	if r.set.Changed("net-rate-out") {
		a.NetRateOut = &r.out
	}
	if r.set.Changed("net-burst") {
		burst := int64(r.burst)
		a.NetBurst = &burst
	}
	return a
}

// need refuses another engine than lade's, which would ignore the flags without
// a word. Without any of them it asks nothing.
func (r *rates) need(ctx context.Context, api *moby.Client) error {
	if r.asked() == (netrate.Asked{}) {
		return nil
	}
	return app.NeedLade(ctx, api, "--net-rate-in, --net-rate-out and --net-burst need")
}

// annotate asks for the rates when a container is created. The library knows
// only Docker's fields, and annotations are those that say anything.
func (r *rates) annotate(h *container.HostConfig) {
	asked := r.asked().AsAnnotations()
	if len(asked) == 0 {
		return
	}
	all := maps.Clone(h.Annotations)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, asked)
	h.Annotations = all
}
