package container

import (
	"context"
	"net/netip"
	"net/url"
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	moby "github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/cli/app"
	"lade/internal/cli/opt"
	"lade/internal/cli/scan"
)

// listed asks for containers, of which only what some columns need is wanted. It
// is what people wait for most often, so it asks at once and reads no more than
// that; where that does not do, the library asks again and says what is wrong.
func listed(ctx context.Context, e *app.Env, o moby.ContainerListOptions, fields []string) ([]container.Summary, error) {
	if raw, err := e.Read(ctx, "/containers/json?"+listQuery(o)); err == nil {
		if list, err := scanList(raw, fields); err == nil {
			return list, nil
		}
	}
	api, err := e.API()
	if err != nil {
		return nil, err
	}
	res, err := api.ContainerList(ctx, o)
	return res.Items, err
}

func listQuery(o moby.ContainerListOptions) string {
	q := url.Values{}
	if o.All {
		q.Set("all", "1")
	}
	if o.Size {
		q.Set("size", "1")
	}
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	if f := opt.FilterText(o.Filters); f != "" {
		q.Set("filters", f)
	}
	return q.Encode()
}

// needs are the members of a container that a column is made of, beside those
// that it is called after.
func needs(field string) []string {
	switch field {
	case "ID":
		return []string{"Id"}
	case "Image":
		return []string{"Image", "ImageID"}
	case "CreatedAt", "RunningFor":
		return []string{"Created"}
	case "Ports":
		return []string{"Ports", "HostConfig"}
	case "Size":
		return []string{"SizeRw", "SizeRootFs"}
	case "LocalVolumes":
		return []string{"Mounts"}
	case "Networks":
		return []string{"NetworkSettings"}
	case "Platform":
		return []string{"ImageManifestDescriptor"}
	}
	return []string{field}
}

// scanList reads of a list what columns need.
func scanList(raw []byte, fields []string) ([]container.Summary, error) {
	var wanted []string
	for _, f := range fields {
		wanted = append(wanted, needs(f)...)
	}
	s := scan.New(raw)
	list := []container.Summary{}
	s.Array(func() {
		list = append(list, container.Summary{})
		c := &list[len(list)-1]
		s.Object(func(name []byte) {
			if slices.ContainsFunc(wanted, func(w string) bool { return w == string(name) }) {
				scanMember(s, c, name)
			} else {
				s.Skip()
			}
		})
	})
	return list, s.End()
}

func scanMember(s *scan.Scanner, c *container.Summary, name []byte) {
	switch string(name) {
	case "Id":
		c.ID = s.String()
	case "Names":
		s.Array(func() { c.Names = append(c.Names, s.String()) })
	case "Image":
		c.Image = s.String()
	case "ImageID":
		c.ImageID = s.String()
	case "ImageManifestDescriptor":
		c.ImageManifestDescriptor = scanManifest(s)
	case "Command":
		c.Command = s.String()
	case "Created":
		c.Created = s.Int()
	case "Ports":
		s.Array(func() { c.Ports = append(c.Ports, scanPort(s)) })
	case "SizeRw":
		c.SizeRw = s.Int()
	case "SizeRootFs":
		c.SizeRootFs = s.Int()
	case "Labels":
		c.Labels = scanTexts(s)
	case "State":
		c.State = container.ContainerState(s.String())
	case "Status":
		c.Status = s.String()
	case "HostConfig":
		members(s, "Annotations", func() { c.HostConfig.Annotations = scanTexts(s) })
	case "NetworkSettings":
		if s.Null() {
			return
		}
		c.NetworkSettings = &container.NetworkSettingsSummary{Networks: map[string]*network.EndpointSettings{}}
		members(s, "Networks", func() {
			s.Object(func(name []byte) {
				c.NetworkSettings.Networks[string(name)] = nil
				s.Skip()
			})
		})
	case "Mounts":
		s.Array(func() { c.Mounts = append(c.Mounts, scanMount(s)) })
	default:
		s.Skip()
	}
}

// members reads one member of an object.
func members(s *scan.Scanner, name string, read func()) {
	s.Object(func(n []byte) {
		if string(n) == name {
			read()
		} else {
			s.Skip()
		}
	})
}

// scanTexts reads an object of strings.
func scanTexts(s *scan.Scanner) map[string]string {
	m := map[string]string{}
	s.Object(func(name []byte) {
		key := string(name)
		m[key] = s.String()
	})
	return m
}

func scanPort(s *scan.Scanner) (p container.PortSummary) {
	s.Object(func(name []byte) {
		switch string(name) {
		case "IP":
			p.IP, _ = netip.ParseAddr(s.String()) // "" is none
		case "PrivatePort":
			p.PrivatePort = uint16(s.Int())
		case "PublicPort":
			p.PublicPort = uint16(s.Int())
		case "Type":
			p.Type = s.String()
		default:
			s.Skip()
		}
	})
	return p
}

func scanMount(s *scan.Scanner) (m container.MountPoint) {
	s.Object(func(name []byte) {
		switch string(name) {
		case "Name":
			m.Name = s.String()
		case "Source":
			m.Source = s.String()
		case "Driver":
			m.Driver = s.String()
		default:
			s.Skip()
		}
	})
	return m
}

func scanManifest(s *scan.Scanner) *ocispec.Descriptor {
	if s.Null() {
		return nil
	}
	d := &ocispec.Descriptor{}
	members(s, "platform", func() {
		if s.Null() {
			return
		}
		d.Platform = &ocispec.Platform{}
		s.Object(func(name []byte) {
			switch string(name) {
			case "os":
				d.Platform.OS = s.String()
			case "architecture":
				d.Platform.Architecture = s.String()
			case "variant":
				d.Platform.Variant = s.String()
			case "os.version":
				d.Platform.OSVersion = s.String()
			case "os.features":
				s.Array(func() { d.Platform.OSFeatures = append(d.Platform.OSFeatures, s.String()) })
			default:
				s.Skip()
			}
		})
	})
	return d
}
