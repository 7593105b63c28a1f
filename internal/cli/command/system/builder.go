package system

import (
	"context"

	"github.com/docker/go-units"
	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/opt"
)

// Builder is the group of commands on the builder; build is the command that
// builds, which has a name of its own at the top.
func Builder(build app.Command) app.Command {
	build.Top, build.Paths = 0, nil
	return app.Command{Use: "builder", Short: "Manage builds", Sub: []app.Command{
		build,
		{Use: "prune", Short: "Remove build cache", Args: app.None(), Build: buildBuilderPrune},
	}}
}

func buildBuilderPrune(e *app.Env, f *pflag.FlagSet) app.Run {
	var filter opt.Filter
	var keep opt.Bytes
	all := f.BoolP("all", "a", false, "Remove all unused build cache, not just dangling ones")
	force := f.BoolP("force", "f", false, "Do not prompt for confirmation")
	f.Var(&filter, "filter", `Provide filter values (e.g. "until=24h")`)
	f.Var(&keep, "keep-storage", "Amount of disk space to keep for cache")
	return func(ctx context.Context, _ []string) error {
		if !*force {
			what := "all dangling build cache"
			if *all {
				what = "all build cache"
			}
			yes, err := e.Confirm("WARNING! This will remove " + what + ". Are you sure you want to continue?")
			if err != nil {
				return err
			}
			if !yes {
				return app.ErrCanceled("builder prune")
			}
		}
		e.AddPruneFilters(&filter)
		api, err := e.API()
		if err != nil {
			return err
		}
		res, err := api.BuildCachePrune(ctx, moby.BuildCachePruneOptions{All: *all, ReservedSpace: int64(keep), Filters: filter.Values()})
		if err != nil {
			return err
		}
		if list := deletedCaches(&res.Report); list != "" {
			if err := e.Println(list); err != nil {
				return err
			}
		}
		return e.Println("Total reclaimed space:", units.HumanSize(float64(res.Report.SpaceReclaimed)))
	}
}
