package system

import (
	"context"

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
			if err := e.ConfirmPrune("builder prune", "WARNING! This will remove "+what+". Are you sure you want to continue?"); err != nil {
				return err
			}
		}
		e.AddPruneFilters(&filter)
		return e.Prune(func() (string, uint64, error) {
			return pruneCache(ctx, e, moby.BuildCachePruneOptions{All: *all, ReservedSpace: int64(keep), Filters: filter.Values()})
		})
	}
}
