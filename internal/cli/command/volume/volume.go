// Package volume holds the commands on volumes.
//
// Sources: docs.docker.com/reference/cli/docker/volume, Docker Engine API
// (volumes/…).
package volume

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/volume"
	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/format"
	"lade/internal/cli/opt"
)

// Group is the group of commands on volumes.
func Group() app.Command {
	return app.Command{Use: "volume COMMAND", Short: "Manage volumes", Sub: append(own(), []app.Command{
		{Use: "create [OPTIONS] [VOLUME]", Short: "Create a volume", Args: app.AtMost(1), Build: buildCreate},
		{Use: "inspect [OPTIONS] VOLUME [VOLUME...]", Short: "Display detailed information on one or more volumes", Args: app.AtLeast(1), Build: buildInspect},
		{Use: "ls [OPTIONS]", Short: "List volumes", Args: app.None(), Paths: []string{"volume ls", "volume list"}, Build: buildList},
		{Use: "prune [OPTIONS]", Short: "Remove unused local volumes", Args: app.None(), Build: buildPrune},
		{Use: "rm [OPTIONS] VOLUME [VOLUME...]", Short: "Remove one or more volumes", Long: "Remove one or more volumes. You cannot remove a volume that is in use by a container.", Args: app.AtLeast(1), Paths: []string{"volume rm", "volume remove"}, Build: buildRemove},
	}...)}
}

func buildCreate(e *app.Env, f *pflag.FlagSet) app.Run {
	driver := f.StringP("driver", "d", "local", "Specify volume driver name")
	name := f.String("name", "", "Specify volume name")
	f.Lookup("name").Hidden = true
	options := opt.NewMap(nil)
	f.VarP(options, "opt", "o", "Set driver specific options")
	labels := opt.NewList(opt.Label)
	f.Var(labels, "label", "Set metadata for a volume")
	return func(ctx context.Context, args []string) error {
		if len(args) == 1 {
			if *name != "" {
				return errors.New("conflicting options: cannot specify a volume-name through both --name and as a positional arg")
			}
			*name = args[0]
		}
		api, err := e.API()
		if err != nil {
			return err
		}
		res, err := api.VolumeCreate(ctx, moby.VolumeCreateOptions{Name: *name, Driver: *driver, DriverOpts: options.Values(), Labels: opt.Pairs(labels.Values())})
		if err != nil {
			return err
		}
		return e.Println(res.Volume.Name)
	}
}

func buildInspect(e *app.Env, f *pflag.FlagSet) app.Run {
	layout := f.StringP("format", "f", "", app.InspectFormat)
	return func(ctx context.Context, args []string) error {
		api, err := e.API()
		if err != nil {
			return err
		}
		return app.Inspect(e, args, *layout, Lookup(ctx, api))
	}
}

// Lookup finds volumes for inspect.
func Lookup(ctx context.Context, api *moby.Client) format.Lookup {
	return func(ref string) (any, []byte, error) {
		res, err := api.VolumeInspect(ctx, ref, moby.VolumeInspectOptions{})
		return res.Volume, res.Raw, err
	}
}

// Header names the columns of volumes.
func Header() format.Header {
	return format.Header{
		format.Kind: "formatter.volumeContext",
		"ID":        "ID", "Name": "VOLUME NAME", "Group": "GROUP", "Driver": "DRIVER", "Scope": "SCOPE", "Availability": "AVAILABILITY",
		"Mountpoint": "MOUNTPOINT", "Labels": "LABELS", "Links": "LINKS", "Size": "SIZE", "Status": "STATUS",
	}
}

func buildList(e *app.Env, f *pflag.FlagSet) app.Run {
	var filter opt.Filter
	quiet := f.BoolP("quiet", "q", false, "Only display volume names")
	layout := f.String("format", "", app.TableFormat)
	f.VarP(&filter, "filter", "f", `Provide filter values (e.g. "dangling=true")`)
	cluster := f.Bool("cluster", false, "Display only cluster volumes, and use cluster volume list formatting")
	f.Lookup("cluster").Hidden = true
	return func(ctx context.Context, _ []string) error {
		api, err := e.API()
		if err != nil {
			return err
		}
		res, err := api.VolumeList(ctx, moby.VolumeListOptions{Filters: filter.Values()})
		if err != nil {
			return err
		}
		if *layout == "" && !*quiet {
			*layout = e.Config().Format("volumesFormat")
		}
		show := *layout
		switch {
		case (show == "" || show == format.Table) && *quiet:
			show = "{{.Name}}"
		case show == "" || show == format.Table:
			show = "table {{.Driver}}\t{{.Name}}"
		case show == "raw" && *quiet:
			show = "name: {{.Name}}"
		case show == "raw":
			show = "name: {{.Name}}\ndriver: {{.Driver}}\n"
		}
		slices.SortFunc(res.Items, func(a, b volume.Volume) int { return format.Natural(a.Name, b.Name) })
		rows := make([]format.Row, 0, len(res.Items))
		for i := range res.Items {
			if !*cluster || res.Items[i].ClusterVolume != nil {
				rows = append(rows, Row(&res.Items[i]))
			}
		}
		return format.Write(e.Out, show, Header(), rows)
	}
}

// Row is a volume in words.
func Row(v *volume.Volume) format.Row {
	r := format.Row{
		"Name": v.Name, "Driver": v.Driver, "Scope": v.Scope, "Mountpoint": v.Mountpoint, "Labels": format.Labels(v.Labels),
		"Links": "N/A", "Size": "N/A", "Group": "N/A", "Availability": "N/A", "Status": "N/A",
	}
	if u := v.UsageData; u != nil {
		r["Links"], r["Size"] = strconv.FormatInt(u.RefCount, 10), units.HumanSize(float64(u.Size))
	}
	r.SetLabels(v.Labels)
	return r
}

func buildRemove(e *app.Env, f *pflag.FlagSet) app.Run {
	force := f.BoolP("force", "f", false, "Force the removal of one or more volumes")
	return func(ctx context.Context, args []string) error {
		api, err := e.API()
		if err != nil {
			return err
		}
		var errs []error
		for _, name := range args {
			_, err := api.VolumeRemove(ctx, name, moby.VolumeRemoveOptions{Force: *force})
			if err == nil {
				err = e.Println(name)
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
}

func buildPrune(e *app.Env, f *pflag.FlagSet) app.Run {
	var filter opt.Filter
	all := f.BoolP("all", "a", false, "Remove all unused volumes, not just anonymous ones")
	force := f.BoolP("force", "f", false, "Do not prompt for confirmation")
	f.Var(&filter, "filter", `Provide filter values (e.g. "label=<label>")`)
	return func(ctx context.Context, _ []string) error {
		what := "anonymous local volumes"
		if *all {
			if _, both := filter.Values()["all"]; both {
				return errors.New("conflicting options: cannot specify both --all and --filter all=1")
			}
			filter.Add("all", "true")
			what = "all local volumes"
		}
		if !*force {
			if err := e.ConfirmPrune("volume prune", "WARNING! This will remove "+what+" not used by at least one container.\nAre you sure you want to continue?"); err != nil {
				return err
			}
		}
		return e.Prune(func() (string, uint64, error) { return Prune(ctx, e, &filter) })
	}
}

// Prune removes unused volumes and returns what it did, in words, and the bytes
// it freed.
func Prune(ctx context.Context, e *app.Env, given *opt.Filter) (string, uint64, error) {
	filter := given.Clone()
	e.AddPruneFilters(filter)
	api, err := e.API()
	if err != nil {
		return "", 0, err
	}
	res, err := api.VolumePrune(ctx, moby.VolumePruneOptions{Filters: filter.Values()})
	if err != nil || len(res.Report.VolumesDeleted) == 0 {
		return "", 0, err
	}
	return "Deleted Volumes:\n" + strings.Join(res.Report.VolumesDeleted, "\n") + "\n", res.Report.SpaceReclaimed, nil
}
