package system

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/build"
	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/command/container"
	"lade/internal/cli/command/image"
	"lade/internal/cli/command/volume"
	"lade/internal/cli/format"
)

func buildUsage(e *app.Env, f *pflag.FlagSet) app.Run {
	verbose := f.BoolP("verbose", "v", false, "Show detailed information on space usage")
	layout := f.String("format", "", app.TableFormat)
	return func(ctx context.Context, _ []string) error {
		api, err := e.API()
		if err != nil {
			return err
		}
		all := moby.DiskUsageOptions{Containers: true, Images: true, BuildCache: true, Volumes: true, Verbose: *verbose}
		du, err := api.DiskUsage(ctx, all)
		if err != nil {
			return err
		}
		show := cmp.Or(*layout, format.Table)
		if *verbose {
			return usageDetails(e, &du, show)
		}
		switch show {
		case format.Table:
			show = "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"
		case "raw":
			show = "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n"
		}
		return format.Write(e.Out, show, format.Header{
			format.Kind: "formatter.diskUsageImagesContext",
			"Type":      "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE",
		}, usageRows(&du))
	}
}

func usageRows(du *moby.DiskUsageResult) []format.Row {
	row := func(kind string, total, active, size, free int64, share bool) format.Row {
		text := units.HumanSize(float64(free))
		if share && size > 0 {
			text += fmt.Sprintf(" (%d%%)", free*100/size)
		}
		return format.Row{
			"Type": kind, "TotalCount": strconv.FormatInt(total, 10), "Active": strconv.FormatInt(active, 10),
			"Size": units.HumanSize(float64(size)), "Reclaimable": text,
		}
	}
	i, c, v, b := &du.Images, &du.Containers, &du.Volumes, &du.BuildCache
	return []format.Row{
		row("Images", i.TotalCount, i.ActiveCount, i.TotalSize, i.Reclaimable, true),
		row("Containers", c.TotalCount, c.ActiveCount, c.TotalSize, c.Reclaimable, true),
		row("Local Volumes", v.TotalCount, v.ActiveCount, v.TotalSize, v.Reclaimable, true),
		row("Build Cache", b.TotalCount, b.ActiveCount, b.TotalSize, b.Reclaimable, false),
	}
}

func usageDetails(e *app.Env, du *moby.DiskUsageResult, show string) error {
	short := strings.HasPrefix(show, format.Table)
	images, containers, volumes, caches := []format.Row{}, []format.Row{}, []format.Row{}, []format.Row{}
	for i := range du.Images.Items {
		if rows := image.Rows(&du.Images.Items[i], short, false, false); len(rows) > 0 {
			rows[0]["Digest"] = ""           // as with Docker, where it is not asked for here
			images = append(images, rows[0]) // one name is enough
		}
	}
	for i := range du.Containers.Items {
		c := &du.Containers.Items[i]
		c.SizeRootFs = 0 // the image's share is counted above
		containers = append(containers, container.Row(c, short))
	}
	for i := range du.Volumes.Items {
		volumes = append(volumes, volume.Row(&du.Volumes.Items[i]))
	}
	for i := range du.BuildCache.Items {
		caches = append(caches, cacheRow(&du.BuildCache.Items[i], short))
	}
	slices.SortStableFunc(caches, func(a, b format.Row) int { return cmp.Compare(a["Size"].(string), b["Size"].(string)) })
	if show != format.Table {
		t, err := format.Parse(show)
		if show == format.JSON {
			t, err = format.Parse("{{json .}}")
		}
		if err != nil {
			return fmt.Errorf("template parsing error: %w", err)
		}
		var text bytes.Buffer // all of it or nothing
		if err := t.Execute(&text, usage{images, containers, volumes, caches}); err != nil {
			return err
		}
		_, err = text.WriteTo(e.Out)
		return err
	}
	for _, s := range []struct {
		title, columns string
		header         format.Header
		rows           []format.Row
	}{
		{"Images space usage:\n\n", "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}", image.Header(), images},
		{"\nContainers space usage:\n\n", "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}", container.Header(), containers},
		{"\nLocal Volumes space usage:\n\n", "{{.Name}}\t{{.Links}}\t{{.Size}}", volume.Header(), volumes},
		{"\nBuild cache usage: " + units.HumanSize(float64(du.BuildCache.TotalSize)) + "\n\n", "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}", cacheHeader(), caches},
	} {
		if _, err := fmt.Fprint(e.Out, s.title); err != nil {
			return err
		}
		if err := format.Write(e.Out, "table "+s.columns, s.header, s.rows); err != nil {
			return err
		}
	}
	return nil
}

// usage is what a template for details sees.
type usage struct{ Images, Containers, Volumes, BuildCache []format.Row }

func cacheHeader() format.Header {
	return format.Header{
		"ID": "CACHE ID", "Parent": "PARENT", "CacheType": "CACHE TYPE", "Size": "SIZE", "CreatedSince": "CREATED",
		"LastUsedSince": "LAST USED", "UsageCount": "USAGE", "Shared": "SHARED", "InUse": "IN USE",
	}
}

func cacheRow(c *build.CacheRecord, short bool) format.Row {
	id := c.ID
	if short {
		id = format.ShortID(id)
	}
	if c.InUse {
		id += "*"
	}
	used := ""
	if c.LastUsedAt != nil {
		used = format.Ago(*c.LastUsedAt)
	}
	created := ""
	if !c.CreatedAt.Equal(time.Time{}) {
		created = format.Ago(c.CreatedAt)
	}
	return format.Row{
		"ID": id, "Parent": strings.Join(c.Parents, ", "), "CacheType": c.Type, "Description": c.Description, "InUse": strconv.FormatBool(c.InUse),
		"Shared": strconv.FormatBool(c.Shared), "Size": units.HumanSizeWithPrecision(float64(c.Size), 3), "CreatedSince": created,
		"LastUsedSince": used, "UsageCount": strconv.Itoa(c.UsageCount),
	}
}
