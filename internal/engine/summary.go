package engine

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container"
	"lade/internal/image"
)

// Summary is a container as lists show it.
func (e *viewer) Summary(r *container.Record) apicontainer.Summary {
	img, err := e.imageOf(r)
	if err != nil {
		img = nil // it is gone
	}
	text, _ := status(r, time.Now())
	return e.summary(r, img, text, e.linkNames()[r.ID])
}

// summary is that of a container of an image, nil if that is gone, whose state in
// words is known, and which has more names by links of others.
func (e *viewer) summary(r *container.Record, img *image.Image, status string, linkNames []string) apicontainer.Summary {
	s := apicontainer.Summary{
		ID: r.ID, Names: append([]string{"/" + r.Name}, linkNames...), Image: r.Config.Image, ImageID: r.ImageID,
		Command: commandLine(r), Created: r.Created.Unix(), Ports: []apicontainer.PortSummary{}, Labels: r.Config.Labels,
		State: r.API(), Status: status, Mounts: mountPoints(r),
		NetworkSettings: &apicontainer.NetworkSettingsSummary{Networks: e.endpointSettings(r)},
	}
	s.Health = &apicontainer.HealthSummary{Status: r.HealthStatus()}
	if r.Health != nil {
		s.Health.FailingStreak = r.Health.FailingStreak
	}
	if s.Labels == nil {
		s.Labels = map[string]string{}
	}
	s.HostConfig.NetworkMode = string(r.HostConfig.NetworkMode)
	s.HostConfig.Annotations = e.annotations(r.ID, r.HostConfig.Annotations)
	s.ImageManifestDescriptor = manifestOf(img)
	if r.State.Alive() {
		s.Ports = e.ports(r)
	}
	return s
}

// commandLine is the command as lists show it.
func commandLine(r *container.Record) string {
	parts := append([]string{r.Path}, r.Args...)
	for i, p := range parts {
		if strings.ContainsAny(p, " ") {
			parts[i] = "'" + p + "'"
		}
	}
	return strings.Join(parts, " ")
}

// ports are a container's ports, exposed and published, in a stable order.
func (e *viewer) ports(r *container.Record) []apicontainer.PortSummary {
	out := []apicontainer.PortSummary{}
	ep, ok := e.Networks.Endpoint(r.ID)
	if !ok {
		return out
	}
	for p := range r.Config.ExposedPorts {
		if len(ep.Ports[p]) == 0 {
			out = append(out, apicontainer.PortSummary{PrivatePort: p.Num(), Type: string(p.Proto())})
		}
	}
	for p, bindings := range ep.Ports {
		for _, b := range bindings {
			n, ok := atoi16(b.HostPort)
			if !ok {
				continue
			}
			out = append(out, apicontainer.PortSummary{IP: b.HostIP, PrivatePort: p.Num(), PublicPort: n, Type: string(p.Proto())})
		}
	}
	slices.SortFunc(out, func(a, b apicontainer.PortSummary) int {
		if c := int(a.PrivatePort) - int(b.PrivatePort); c != 0 {
			return c
		}
		if c := strings.Compare(a.Type, b.Type); c != 0 {
			return c
		}
		return compareAddr(a.IP, b.IP)
	})
	return out
}

func compareAddr(a, b netip.Addr) int { return a.Compare(b) }
