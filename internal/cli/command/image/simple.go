package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/format"
	"lade/internal/cli/opt"
)

func buildTag(e *app.Env, f *pflag.FlagSet) app.Run {
	f.SetInterspersed(false)
	return func(ctx context.Context, args []string) error {
		api, err := e.API()
		if err != nil {
			return err
		}
		_, err = api.ImageTag(ctx, moby.ImageTagOptions{Source: args[0], Target: args[1]})
		return err
	}
}

func buildRemove(e *app.Env, f *pflag.FlagSet) app.Run {
	force := f.BoolP("force", "f", false, "Force removal of the image")
	keep := f.Bool("no-prune", false, "Do not delete untagged parents")
	platforms := f.StringSlice("platform", nil, `Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")`)
	return func(ctx context.Context, args []string) error {
		o := moby.ImageRemoveOptions{Force: *force, PruneChildren: !*keep}
		for _, v := range *platforms {
			p, err := opt.Platform(v)
			if err != nil {
				return err
			}
			o.Platforms = append(o.Platforms, *p)
		}
		api, err := e.API()
		if err != nil {
			return err
		}
		var errs []error
		fatal := false
		for _, name := range args {
			res, err := api.ImageRemove(ctx, name, o)
			if err != nil {
				fatal = fatal || !errdefs.IsNotFound(err)
				errs = append(errs, err)
				continue
			}
			for _, d := range res.Items {
				what := "Untagged: " + d.Untagged
				if d.Deleted != "" {
					what = "Deleted: " + d.Deleted
				}
				if err := e.Println(what); err != nil {
					return err
				}
			}
		}
		err = errors.Join(errs...)
		if err != nil && *force && !fatal {
			e.Complain(err)
			return nil
		}
		return err
	}
}

func buildInspect(e *app.Env, f *pflag.FlagSet) app.Run {
	layout := f.StringP("format", "f", "", app.InspectFormat)
	platform := f.String("platform", "", `Inspect a specific platform of the multi-platform image.
If the image or the server is not multi-platform capable, the command will error out if the platform does not match.
'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)`)
	return func(ctx context.Context, args []string) error {
		var opts []moby.ImageInspectOption
		if *platform != "" {
			p, err := opt.Platform(*platform)
			if err != nil {
				return err
			}
			opts = append(opts, moby.ImageInspectWithPlatform(p))
		}
		api, err := e.API()
		if err != nil {
			return err
		}
		return app.Inspect(e, args, *layout, Lookup(ctx, api, opts...))
	}
}

// Lookup finds images for inspect.
func Lookup(ctx context.Context, api *moby.Client, opts ...moby.ImageInspectOption) format.Lookup {
	return func(ref string) (any, []byte, error) {
		var raw bytes.Buffer
		res, err := api.ImageInspect(ctx, ref, append(opts, moby.ImageInspectWithRawResponse(&raw))...)
		return res.InspectResponse, raw.Bytes(), err
	}
}

func buildHistory(e *app.Env, f *pflag.FlagSet) app.Run {
	human := f.BoolP("human", "H", true, "Print sizes and dates in human readable format")
	quiet := f.BoolP("quiet", "q", false, "Only show image IDs")
	full := f.Bool("no-trunc", false, "Don't truncate output")
	layout := f.String("format", "", app.TableFormat)
	platform := f.String("platform", "", `Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")`)
	return func(ctx context.Context, args []string) error {
		var opts []moby.ImageHistoryOption
		if *platform != "" {
			p, err := opt.Platform(*platform)
			if err != nil {
				return fmt.Errorf("invalid platform: %w", err)
			}
			opts = append(opts, moby.ImageHistoryWithPlatform(*p))
		}
		api, err := e.API()
		if err != nil {
			return err
		}
		res, err := api.ImageHistory(ctx, args[0], opts...)
		if err != nil {
			return err
		}
		show := *layout
		if show == "" || show == format.Table {
			show = "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
			if !*human {
				show = strings.Replace(show, "CreatedSince", "CreatedAt", 1)
			}
			if *quiet {
				show = "{{.ID}}"
			}
		}
		rows := make([]format.Row, 0, len(res.Items))
		for _, h := range res.Items {
			created := time.Unix(h.Created, 0)
			at, by, id := created.Format(time.RFC3339), strings.ReplaceAll(h.CreatedBy, "\t", " "), h.ID
			since, size := at, strconv.FormatInt(h.Size, 10)
			if *human {
				size = format.Size(h.Size)
				// Reproducible builds have no time, which shows as one long ago.
				if since = "N/A"; created.Year() >= 2000 {
					since = format.Ago(created)
				}
			}
			if !*full {
				id, by = format.ShortID(id), format.Ellipsis(by, 45)
			}
			rows = append(rows, format.Row{"ID": id, "CreatedSince": since, "CreatedAt": at, "CreatedBy": by, "Size": size, "Comment": h.Comment})
		}
		return format.Write(e.Out, show, format.Header{
			format.Kind: "image.historyContext",
			"ID":        "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY", "Size": "SIZE", "Comment": "COMMENT",
		}, rows)
	}
}

func buildPrune(e *app.Env, f *pflag.FlagSet) app.Run {
	var filter opt.Filter
	all := f.BoolP("all", "a", false, "Remove all unused images, not just dangling ones")
	force := f.BoolP("force", "f", false, "Do not prompt for confirmation")
	f.Var(&filter, "filter", `Provide filter values (e.g. "until=<timestamp>")`)
	return func(ctx context.Context, _ []string) error {
		if !*force {
			what := "all dangling images"
			if *all {
				what = "all images without at least one container associated to them"
			}
			if err := e.ConfirmPrune("image prune", "WARNING! This will remove "+what+".\nAre you sure you want to continue?"); err != nil {
				return err
			}
		}
		return e.Prune(func() (string, uint64, error) { return Prune(ctx, e, &filter, *all) })
	}
}

// Prune removes unused images and returns what it did, in words, and the bytes
// it freed.
func Prune(ctx context.Context, e *app.Env, given *opt.Filter, all bool) (string, uint64, error) {
	filter := given.Clone()
	filter.Add("dangling", strconv.FormatBool(!all))
	e.AddPruneFilters(filter)
	api, err := e.API()
	if err != nil {
		return "", 0, err
	}
	res, err := api.ImagePrune(ctx, moby.ImagePruneOptions{Filters: filter.Values()})
	if err != nil || len(res.Report.ImagesDeleted) == 0 {
		return "", 0, err
	}
	var b strings.Builder
	b.WriteString("Deleted Images:\n")
	for _, d := range res.Report.ImagesDeleted {
		if d.Untagged != "" {
			b.WriteString("untagged: " + d.Untagged + "\n")
		} else {
			b.WriteString("deleted: " + d.Deleted + "\n")
		}
	}
	return b.String(), res.Report.SpaceReclaimed, nil
}
