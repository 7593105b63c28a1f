package system

import (
	"context"
	"fmt"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
)

// reclaimed is the engine's report.
type reclaimed struct {
	Policy string
	Used   float64
	Items  []struct {
		Kind, ID, Name string
		LastUsed       time.Time
		Size           int64
	}
	Reclaimed int64
	Short     bool
}

// buildReclaim is for a command that Docker does not have.
func buildReclaim(e *app.Env, f *pflag.FlagSet) app.Run {
	dry := f.Bool("dry-run", false, "Only show what would be removed")
	return func(ctx context.Context, _ []string) error {
		api, ep, err := e.Lade(ctx)
		if err != nil {
			return err
		}
		var r reclaimed
		if err := ep.Send(ctx, api, fmt.Sprintf("/lade/disk/reclaim?dry-run=%t", *dry), "", nil, &r); err != nil {
			return err
		}
		if err := e.Println(fmt.Sprintf("Policy: %s; %.0f %% are used", r.Policy, r.Used)); err != nil {
			return err
		}
		for _, i := range r.Items {
			name := i.Name
			if name == "" {
				name = i.ID
			}
			if err := e.Println(fmt.Sprintf("%s %s, last used %s ago, %s", i.Kind, name, units.HumanDuration(time.Since(i.LastUsed)), units.HumanSize(float64(i.Size)))); err != nil {
				return err
			}
		}
		what := "Reclaimed"
		if *dry {
			what = "Would reclaim"
		}
		if err := e.Println(what, units.HumanSize(float64(r.Reclaimed))); err != nil {
			return err
		}
		if r.Short {
			e.Complain("The low water mark is out of reach: everything else is in use or protected.")
		}
		return nil
	}
}
