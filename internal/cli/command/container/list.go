package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/format"
	"lade/internal/cli/opt"
)

// Header names the columns of containers.
func Header() format.Header {
	return format.Header{
		format.Kind: "formatter.ContainerContext",
		"ID":        "CONTAINER ID", "Names": "NAMES", "Image": "IMAGE", "Command": "COMMAND", "CreatedAt": "CREATED AT",
		"RunningFor": "CREATED", "Ports": "PORTS", "State": "STATE", "Status": "STATUS", "Size": "SIZE", "Labels": "LABELS",
		"Mounts": "MOUNTS", "LocalVolumes": "LOCAL VOLUMES", "Networks": "NETWORKS", "Platform": "PLATFORM",
	}
}

func buildList(e *app.Env, f *pflag.FlagSet) app.Run {
	var o moby.ContainerListOptions
	var filter opt.Filter
	quiet := f.BoolP("quiet", "q", false, "Only display container IDs")
	f.BoolVarP(&o.Size, "size", "s", false, "Display total file sizes")
	f.BoolVarP(&o.All, "all", "a", false, "Show all containers (default shows just running)")
	full := f.Bool("no-trunc", false, "Don't truncate output")
	latest := f.BoolP("latest", "l", false, "Show the latest created container (includes all states)")
	f.IntVarP(&o.Limit, "last", "n", -1, "Show n last created containers (includes all states)")
	layout := f.String("format", "", app.TableFormat)
	f.VarP(&filter, "filter", "f", "Filter output based on conditions provided")
	return func(ctx context.Context, _ []string) error {
		if *layout == "" {
			*layout = e.Config().Format("psFormat")
		} else if *quiet {
			e.Warn("Ignoring custom format, because both --format and --quiet are set.")
		}
		if *latest && o.Limit == -1 {
			o.Limit = 1
		}
		if _, err := format.Parse(*layout); err != nil {
			return fmt.Errorf("failed to parse template: %w", err)
		}
		// Sizes cost the engine a walk, so they are asked for only when printed.
		if !*quiet && !f.Changed("size") && format.Uses(*layout, "Size") {
			o.Size = true
		}
		o.Filters = filter.Values()
		show := listFormat(*layout, *quiet, o.Size)
		fields, plain := format.Fields(show, Header())
		if !plain {
			fields = Header().Columns()
		}
		items, err := listed(ctx, e, o, fields)
		if err != nil {
			return err
		}
		rows := make([]format.Row, 0, len(items))
		for i := range items {
			r := row(&items[i], !*full, fields)
			r.SetLabels(items[i].Labels)
			rows = append(rows, r)
		}
		if _, width := e.Out.Size(); width > 0 && !*quiet && !*full && (*layout == "" || *layout == format.Table) {
			show = narrowed(rows, int(width), o.Size)
		}
		err = format.Write(e.Out, show, Header(), rows)
		if bad, ok := errors.AsType[*format.BadField](err); ok { // Docker looks at the fields of this list beforehand
			return fmt.Errorf("failed to execute template: %w", bad)
		}
		return err
	}
}

func listFormat(layout string, quiet, size bool) string {
	switch {
	case quiet && layout == "raw":
		return "container_id: {{.ID}}"
	case quiet:
		return "{{.ID}}"
	case layout == "raw":
		t := "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n" +
			"state: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\n" +
			"labels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n"
		if size {
			t += "size: {{.Size}}\n"
		}
		return t
	case layout == "" || layout == format.Table:
		t := "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
		if size {
			t += "\t{{.Size}}"
		}
		return t
	}
	return layout
}

// Row is a container in words; short cuts what is long.
func Row(c *container.Summary, short bool) format.Row {
	r := row(c, short, Header().Columns())
	r.SetLabels(c.Labels)
	return r
}

// row is a container in words, of which only some are wanted.
func row(c *container.Summary, short bool, fields []string) format.Row {
	r := make(format.Row, len(fields)+1)
	for _, f := range fields {
		r[f] = cell(c, f, short)
	}
	return r
}

// cell is one of them.
func cell(c *container.Summary, field string, short bool) any {
	switch field {
	case "ID":
		if short {
			return format.ShortID(c.ID)
		}
		return c.ID
	case "Names":
		return names(c.Names, short)
	case "Image":
		return image(c, short)
	case "Command":
		if short {
			return strconv.Quote(format.Ellipsis(c.Command, 20))
		}
		return strconv.Quote(c.Command)
	case "CreatedAt":
		return time.Unix(c.Created, 0).String()
	case "RunningFor":
		return format.Ago(time.Unix(c.Created, 0))
	case "Ports":
		return ports(c.Ports, c.HostConfig.Annotations)
	case "State":
		return string(c.State)
	case "Status":
		return c.Status
	case "Size":
		return size(c)
	case "Labels":
		return format.Labels(c.Labels)
	case "Mounts":
		return mounts(c.Mounts, short)
	case "LocalVolumes":
		return strconv.Itoa(localVolumes(c.Mounts))
	case "Networks":
		if c.NetworkSettings == nil {
			return ""
		}
		return strings.Join(slices.Sorted(maps.Keys(c.NetworkSettings.Networks)), ",")
	case "Platform":
		return platformOf(c)
	}
	return nil
}

func size(c *container.Summary) string {
	text := format.Size(c.SizeRw)
	if c.SizeRootFs > 0 {
		text += " (virtual " + format.Size(c.SizeRootFs) + ")"
	}
	return text
}

func localVolumes(list []container.MountPoint) (n int) {
	for _, m := range list {
		if m.Driver == "local" {
			n++
		}
	}
	return n
}

func mounts(list []container.MountPoint, short bool) string {
	out := make([]string, 0, len(list))
	for _, m := range list {
		name := cmp.Or(m.Name, m.Source)
		if short {
			name = format.Ellipsis(name, 15)
		}
		out = append(out, name)
	}
	return strings.Join(out, ",")
}

// platformOf is nil for a container whose image does not say.
func platformOf(c *container.Summary) any {
	d := c.ImageManifestDescriptor
	if d == nil || d.Platform == nil {
		return nil
	}
	p := d.Platform
	text := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		text += "/" + p.Variant
	}
	return platform{p, text}
}

// platform prints as os/arch and marshals as the record it is.
type platform struct {
	record any
	text   string
}

func (p platform) String() string { return p.text }

// MarshalJSON writes the platform's fields.
func (p platform) MarshalJSON() ([]byte, error) { return marshal(p.record) }

// names are the container's names; only its own, without those that links gave,
// when short.
func names(all []string, short bool) string {
	out := make([]string, 0, len(all))
	for _, n := range all {
		out = append(out, strings.TrimPrefix(n, "/"))
	}
	if short {
		for _, n := range out {
			if !strings.Contains(n, "/") {
				return n
			}
		}
	}
	return strings.Join(out, ",")
}

func image(c *container.Summary, short bool) string {
	if c.Image == "" {
		return "<no image>"
	}
	if !short {
		return c.Image
	}
	if id := format.ShortID(c.ImageID); id != "" && id == format.ShortID(c.Image) {
		return id
	}
	ref, err := reference.ParseNormalizedNamed(c.Image)
	if err != nil {
		return c.Image
	}
	// The digest is what makes an image's name too long for a column.
	bare := reference.TrimNamed(ref)
	if t, ok := ref.(reference.Tagged); ok {
		if named, err := reference.WithTag(bare, t.Tag()); err == nil {
			return reference.FamiliarString(named)
		}
	}
	return reference.FamiliarString(bare)
}

// ports joins ports that follow each other: "0.0.0.0:80-81->80-81/tcp, 9/udp".
// Ports that are published under another number, or not in Docker's way, come
// last.
func ports(list []container.PortSummary, annotations map[string]string) string {
	ip := func(p *container.PortSummary) string {
		if p.IP.IsValid() {
			return p.IP.String()
		}
		return ""
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b container.PortSummary) int {
		return cmp.Or(cmp.Compare(a.PrivatePort, b.PrivatePort), cmp.Compare(ip(&a), ip(&b)),
			cmp.Compare(a.PublicPort, b.PublicPort), cmp.Compare(a.Type, b.Type))
	})
	type group struct {
		ip, proto   string
		first, last uint16
	}
	text := func(g *group) string {
		r := strconv.Itoa(int(g.first))
		if g.first != g.last {
			r += "-" + strconv.Itoa(int(g.last))
		}
		if g.ip != "" {
			r = net.JoinHostPort(g.ip, r) + "->" + r
		}
		return r + "/" + g.proto
	}
	var done, moved []string
	var open []*group
	for i := range list {
		p := &list[i]
		addr := ip(p)
		public, note := strconv.Itoa(int(p.PublicPort)), ""
		if port, ok := network.PortFrom(p.PrivatePort, network.IPProtocol(p.Type)); ok && len(annotations) > 0 {
			note = how(annotations, port, network.PortBinding{HostIP: p.IP, HostPort: public})
		}
		if addr != "" && p.PublicPort != p.PrivatePort || note != "" {
			moved = append(moved, fmt.Sprintf("%s->%d/%s%s", net.JoinHostPort(addr, public), p.PrivatePort, p.Type, note))
			continue
		}
		at := slices.IndexFunc(open, func(g *group) bool { return g.ip == addr && g.proto == p.Type })
		switch {
		case at < 0:
			open = append(open, &group{addr, p.Type, p.PrivatePort, p.PrivatePort})
		case p.PrivatePort == open[at].last+1:
			open[at].last = p.PrivatePort
		default:
			done = append(done, text(open[at]))
			*open[at] = group{addr, p.Type, p.PrivatePort, p.PrivatePort}
		}
	}
	for _, g := range open {
		done = append(done, text(g))
	}
	return strings.Join(append(done, moved...), ", ")
}
