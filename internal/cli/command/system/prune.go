package system

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/command/container"
	"lade/internal/cli/command/image"
	"lade/internal/cli/command/network"
	"lade/internal/cli/command/volume"
	"lade/internal/cli/format"
	"lade/internal/cli/opt"
)

func buildPrune(e *app.Env, f *pflag.FlagSet) app.Run {
	var filter opt.Filter
	force := f.BoolP("force", "f", false, "Do not prompt for confirmation")
	all := f.BoolP("all", "a", false, "Remove all unused images not just dangling ones")
	volumes := f.Bool("volumes", false, "Prune anonymous volumes")
	f.Var(&filter, "filter", `Provide filter values (e.g. "label=<key>=<value>")`)
	return func(ctx context.Context, _ []string) error {
		if _, ok := filter.Values()["until"]; ok && *volumes {
			return errors.New(`ERROR: The "until" filter is not supported with "--volumes"`)
		}
		if !*force {
			if err := e.ConfirmPrune("system prune", pruneWarning(e, &filter, *all, *volumes)); err != nil {
				return err
			}
		}
		return e.Prune(
			func() (string, uint64, error) { return container.Prune(ctx, e, &filter) },
			func() (string, uint64, error) { out, err := network.Prune(ctx, e, &filter); return out, 0, err },
			func() (string, uint64, error) {
				if !*volumes {
					return "", 0, nil
				}
				return volume.Prune(ctx, e, &filter)
			},
			func() (string, uint64, error) { return image.Prune(ctx, e, &filter, *all) },
			func() (string, uint64, error) {
				return pruneCache(ctx, e, moby.BuildCachePruneOptions{All: *all, Filters: filter.Values()})
			},
		)
	}
}

// pruneCache removes results of builds and returns what it did, in words, and
// the bytes that it freed.
func pruneCache(ctx context.Context, e *app.Env, o moby.BuildCachePruneOptions) (string, uint64, error) {
	api, err := e.API()
	if err != nil {
		return "", 0, err
	}
	res, err := api.BuildCachePrune(ctx, o)
	if err != nil {
		return "", 0, err
	}
	removed := ""
	if ids := res.Report.CachesDeleted; len(ids) > 0 {
		removed = "Deleted build cache objects:\n" + strings.Join(ids, "\n") + "\n"
	}
	return removed, res.Report.SpaceReclaimed, nil
}

func pruneWarning(e *app.Env, given *opt.Filter, all, volumes bool) string {
	what := []string{"all stopped containers", "all networks not used by at least one container"}
	if volumes {
		what = append(what, "all anonymous volumes not used by at least one container")
	}
	if all {
		what = append(what, "all images without at least one container associated to them", "all build cache")
	} else {
		what = append(what, "all dangling images", "unused build cache")
	}
	text := "WARNING! This will remove:\n  - " + strings.Join(what, "\n  - ") + "\n"
	filter := given.Clone()
	e.AddPruneFilters(filter)
	var filters []string
	for _, name := range []string{"label", "label!", "until"} {
		for v := range filter.Values()[name] {
			filters = append(filters, name+"="+v)
		}
	}
	if len(filters) > 0 {
		slices.SortFunc(filters, format.Natural)
		text += "\n  Items to be pruned will be filtered with:\n  - " + strings.Join(filters, "\n  - ") + "\n"
	}
	return text + "\nAre you sure you want to continue?"
}

// buildDial joins our standard streams with a connection to the engine: the far
// end of ssh:// hosts.
func buildDial(e *app.Env, _ *pflag.FlagSet) app.Run {
	return func(ctx context.Context, _ []string) error {
		conn, err := e.Dial(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		in := make(chan error, 1)
		go func() {
			_, err := io.Copy(conn, e.In)
			if c, ok := conn.(interface{ CloseWrite() error }); ok {
				_ = c.CloseWrite()
			}
			in <- err
		}()
		out := make(chan error, 1)
		go func() {
			_, err := io.Copy(e.Out, conn)
			out <- err
		}()
		for {
			select {
			case err := <-out:
				return err
			case err := <-in:
				if err != nil {
					return err
				}
				in = nil // the engine may still be answering
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}
