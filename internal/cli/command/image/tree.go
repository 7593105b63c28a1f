package image

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/moby/moby/api/types/image"
	moby "github.com/moby/moby/client"

	"lade/internal/cli/app"
	"lade/internal/cli/format"
	"lade/internal/cli/opt"
)

// treeOptions are those of the list that matter for a tree.
type treeOptions struct {
	all, full bool
	filter    *opt.Filter
}

// tree lists each image with its platforms below it.
func tree(ctx context.Context, e *app.Env, o treeOptions) error {
	api, err := e.API()
	if err != nil {
		return err
	}
	res, err := api.ImageList(ctx, moby.ImageListOptions{All: o.all, Manifests: true, Filters: o.filter.Values()})
	if err != nil {
		return err
	}
	var rows []format.Row
	for i := range res.Items {
		rows = append(rows, treeRows(&res.Items[i], o.full)...)
	}
	return format.Write(e.Out, "table {{.Image}}\t{{.ID}}\t{{.Total}}\t{{.Content}}\t{{.Extra}}", format.Header{
		"Image": "IMAGE", "ID": "ID", "Total": "DISK USAGE", "Content": "CONTENT SIZE", "Extra": "EXTRA",
	}, rows)
}

// treeRows are the names of an image and then its platforms, those that are not
// here without sizes.
func treeRows(i *image.Summary, full bool) []format.Row {
	id := func(s string) string {
		if full {
			return s
		}
		return format.ShortID(s)
	}
	names := i.RepoTags
	if len(names) == 0 {
		names = []string{"<untagged>"}
	}
	var total, content int64
	used := false
	var below []format.Row
	for n, m := range platformsOf(i) {
		branch := "├─ "
		if n == 0 {
			branch = "└─ " // the last one: they are turned round below
		}
		row := format.Row{"Image": branch + platform(&m), "ID": id(m.ID), "Total": "-", "Content": "-", "Extra": ""}
		if m.Available {
			total += m.Size.Total
			content += m.Size.Content
			row["Total"], row["Content"] = format.Size(m.Size.Total), format.Size(m.Size.Content)
		}
		if m.ImageData != nil && len(m.ImageData.Containers) > 0 {
			used, row["Extra"] = true, "U"
		}
		below = append(below, row)
	}
	slices.Reverse(below)
	extra := ""
	if used {
		extra = "U"
	}
	var rows []format.Row
	for _, n := range names {
		rows = append(rows, format.Row{"Image": n, "ID": id(i.ID), "Total": format.Size(cmp.Or(total, i.Size)), "Content": format.Size(content), "Extra": extra})
	}
	return append(rows, below...)
}

// platformsOf are the manifests of an image that are images, the last one first.
func platformsOf(i *image.Summary) []image.ManifestSummary {
	var out []image.ManifestSummary
	for _, m := range i.Manifests {
		if m.Kind == image.ManifestKindImage && m.ImageData != nil {
			out = append(out, m)
		}
	}
	slices.Reverse(out)
	return out
}

func platform(m *image.ManifestSummary) string {
	p := m.ImageData.Platform
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// treeExcludes refuses what a tree cannot show.
func treeExcludes(quiet, digests bool, layout string) error {
	switch {
	case quiet:
		return errors.New("--quiet is not yet supported with --tree")
	case digests:
		return errors.New("--show-digest is not yet supported with --tree")
	case layout != "":
		return errors.New("--format is not yet supported with --tree")
	}
	return nil
}
