package image

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/image"
	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/format"
	"lade/internal/cli/opt"
)

// Header names the columns of images.
func Header() format.Header {
	return format.Header{
		format.Kind: "formatter.imageContext",
		"ID":        "IMAGE ID", "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "CreatedSince": "CREATED",
		"CreatedAt": "CREATED AT", "Size": "SIZE", "Containers": "CONTAINERS", "VirtualSize": "SIZE",
		"SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE",
	}
}

// subcommands are words that people mistype after "images".
func subcommands() []string {
	return []string{"build", "history", "import", "inspect", "list", "load", "ls", "prune", "pull", "push", "rm", "save", "tag"}
}

func buildList(legacy bool) func(*app.Env, *pflag.FlagSet) app.Run {
	return func(e *app.Env, f *pflag.FlagSet) app.Run {
		var filter opt.Filter
		quiet := f.BoolP("quiet", "q", false, "Only show image IDs")
		all := f.BoolP("all", "a", false, "Show all images (default hides intermediate images)")
		full := f.Bool("no-trunc", false, "Don't truncate output")
		digests := f.Bool("digests", false, "Show digests")
		layout := f.String("format", "", app.TableFormat)
		f.VarP(&filter, "filter", "f", "Filter output based on conditions provided")
		asTree := f.Bool("tree", false, "List multi-platform images as a tree (EXPERIMENTAL)")
		return func(ctx context.Context, args []string) error {
			if len(args) > 0 {
				filter.Add("reference", args[0])
			}
			if *asTree {
				if err := treeExcludes(*quiet, *digests, *layout); err != nil {
					return err
				}
				return tree(ctx, e, treeOptions{all: *all, full: *full, filter: &filter})
			}
			api, err := e.API()
			if err != nil {
				return err
			}
			res, err := api.ImageList(ctx, moby.ImageListOptions{All: *all, Filters: filter.Values()})
			if err != nil {
				return err
			}
			if *layout == "" && !*quiet {
				*layout = e.Config().Format("imagesFormat")
			}
			show := listFormat(*layout, *quiet, *digests)
			var rows []format.Row
			for i := range res.Items {
				rows = append(rows, Rows(&res.Items[i], !*full, *digests || format.Uses(show, "Digest"), *digests)...)
			}
			if err := format.Write(e.Out, show, Header(), rows); err != nil {
				return err
			}
			if legacy && len(args) > 0 && len(res.Items) == 0 && slices.Contains(subcommands(), args[0]) {
				e.Complain(fmt.Sprintf("\nNo images found matching %q: did you mean \"%s image %[1]s\"?", args[0], app.Name))
			}
			return nil
		}
	}
}

func listFormat(layout string, quiet, digests bool) string {
	const age = "\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}"
	switch {
	case layout == "" || layout == format.Table:
		switch {
		case quiet:
			return "{{.ID}}"
		case digests:
			return "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}" + age
		}
		return "table {{.Repository}}\t{{.Tag}}" + age
	case layout == "raw" && quiet:
		return "image_id: {{.ID}}"
	case layout == "raw":
		d := ""
		if digests {
			d = "digest: {{.Digest}}\n"
		}
		return "repository: {{ .Repository }}\ntag: {{.Tag}}\n" + d + "image_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n"
	case len(layout) > 5 && layout[:5] == format.Table && digests && !format.Uses(layout, "Digest"):
		return layout + "\t{{.Digest}}"
	}
	return layout
}

// Rows are an image's names, a row each, or one row of "<none>". needDigest asks
// for the digests of tags, alone for digests without a tag as rows of their own.
func Rows(i *image.Summary, short, needDigest, alone bool) []format.Row {
	type name struct{ repo, tag, digest string }
	var all []name
	digests := map[string][]string{}
	var order []string
	for _, d := range i.RepoDigests {
		ref, err := reference.ParseNormalizedNamed(d)
		if err != nil {
			continue
		}
		if c, ok := ref.(reference.Canonical); ok {
			n := reference.FamiliarName(ref)
			if digests[n] == nil {
				order = append(order, n)
			}
			digests[n] = append(digests[n], c.Digest().String())
		}
	}
	tagged := map[string]bool{}
	for _, t := range i.RepoTags {
		ref, err := reference.ParseNormalizedNamed(t)
		if err != nil {
			continue
		}
		nt, ok := ref.(reference.NamedTagged)
		if !ok {
			continue
		}
		repo := reference.FamiliarName(ref)
		tagged[repo] = true
		if !needDigest || len(digests[repo]) == 0 {
			all = append(all, name{repo, nt.Tag(), "<none>"})
			continue
		}
		for _, d := range digests[repo] {
			all = append(all, name{repo, nt.Tag(), d})
		}
	}
	for _, repo := range order {
		switch {
		case tagged[repo]:
		case alone:
			for _, d := range digests[repo] {
				all = append(all, name{repo, "<none>", d})
			}
		default:
			all = append(all, name{repo, "<none>", ""})
		}
	}
	if len(i.RepoTags) == 0 && len(i.RepoDigests) == 0 || slices.Equal(i.RepoTags, []string{"<none>:<none>"}) && slices.Equal(i.RepoDigests, []string{"<none>@<none>"}) {
		all = []name{{"<none>", "<none>", "<none>"}}
	}
	rows := make([]format.Row, 0, len(all))
	for _, n := range all {
		rows = append(rows, row(i, n.repo, n.tag, n.digest, short))
	}
	return rows
}

func row(i *image.Summary, repo, tag, digest string, short bool) format.Row {
	id := i.ID
	if short {
		id = format.ShortID(id)
	}
	created := time.Unix(i.Created, 0)
	count := func(known bool, n int64) string {
		if !known {
			return "N/A"
		}
		return units.HumanSize(float64(n))
	}
	containers := "N/A"
	if i.Containers != -1 {
		containers = strconv.FormatInt(i.Containers, 10)
	}
	return format.Row{
		"ID": id, "Repository": repo, "Tag": tag, "Digest": digest, "CreatedSince": format.Ago(created),
		"CreatedAt": created.String(), "Size": format.Size(i.Size), "Containers": containers,
		"VirtualSize": units.HumanSize(float64(i.Size)), "SharedSize": count(i.SharedSize != -1, i.SharedSize),
		"UniqueSize": count(i.SharedSize != -1 && i.Size != -1, i.Size-i.SharedSize),
	}
}
