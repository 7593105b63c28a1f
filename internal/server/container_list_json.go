package server

import (
	"net/netip"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A list of containers is what is asked for most, by everything that watches,
// and the only answer of which there may be a thousand times a thousand bytes.
// It is written by hand: encoding/json takes three times as long, mostly for
// finding out what the types are. A test compares the two on values of every
// field.

// appendSummary appends the JSON of a container in a list as encoding/json writes
// it, with <, > and & as they are.
func appendSummary(b []byte, s *container.Summary) []byte {
	b = appendText(append(b, `{"Id":`...), s.ID)
	b = appendTexts(append(b, `,"Names":`...), s.Names)
	b = appendText(append(b, `,"Image":`...), s.Image)
	b = appendText(append(b, `,"ImageID":`...), s.ImageID)
	if s.ImageManifestDescriptor != nil {
		b = appendManifest(append(b, `,"ImageManifestDescriptor":`...), s.ImageManifestDescriptor)
	}
	b = appendText(append(b, `,"Command":`...), s.Command)
	b = strconv.AppendInt(append(b, `,"Created":`...), s.Created, 10)
	b = appendList(append(b, `,"Ports":`...), s.Ports, appendPort)
	if s.SizeRw != 0 {
		b = strconv.AppendInt(append(b, `,"SizeRw":`...), s.SizeRw, 10)
	}
	if s.SizeRootFs != 0 {
		b = strconv.AppendInt(append(b, `,"SizeRootFs":`...), s.SizeRootFs, 10)
	}
	b = appendMap(append(b, `,"Labels":`...), s.Labels)
	b = appendText(append(b, `,"State":`...), string(s.State))
	b = appendText(append(b, `,"Status":`...), s.Status)
	b = append(b, `,"HostConfig":{`...)
	if s.HostConfig.NetworkMode != "" {
		b = appendText(append(b, `"NetworkMode":`...), s.HostConfig.NetworkMode)
	}
	if len(s.HostConfig.Annotations) > 0 {
		if s.HostConfig.NetworkMode != "" {
			b = append(b, ',')
		}
		b = appendMap(append(b, `"Annotations":`...), s.HostConfig.Annotations)
	}
	b = append(b, '}')
	if h := s.Health; h != nil {
		b = appendText(append(b, `,"Health":{"Status":`...), string(h.Status))
		b = strconv.AppendInt(append(b, `,"FailingStreak":`...), int64(h.FailingStreak), 10)
		b = append(b, '}')
	}
	b = append(b, `,"NetworkSettings":`...)
	if n := s.NetworkSettings; n == nil {
		b = append(b, "null"...)
	} else {
		b = append(appendNetworks(append(b, `{"Networks":`...), n.Networks), '}')
	}
	b = appendList(append(b, `,"Mounts":`...), s.Mounts, appendMount)
	return append(b, '}')
}

func appendPort(b []byte, p *container.PortSummary) []byte {
	b = appendAddr(append(b, `{"IP":`...), p.IP)
	b = strconv.AppendUint(append(b, `,"PrivatePort":`...), uint64(p.PrivatePort), 10)
	if p.PublicPort != 0 {
		b = strconv.AppendUint(append(b, `,"PublicPort":`...), uint64(p.PublicPort), 10)
	}
	return append(appendText(append(b, `,"Type":`...), p.Type), '}')
}

func appendMount(b []byte, m *container.MountPoint) []byte {
	b = append(b, '{')
	if m.Type != "" {
		b = append(appendText(append(b, `"Type":`...), string(m.Type)), ',')
	}
	if m.Name != "" {
		b = append(appendText(append(b, `"Name":`...), m.Name), ',')
	}
	b = appendText(append(b, `"Source":`...), m.Source)
	b = appendText(append(b, `,"Destination":`...), m.Destination)
	if m.Driver != "" {
		b = appendText(append(b, `,"Driver":`...), m.Driver)
	}
	b = appendText(append(b, `,"Mode":`...), m.Mode)
	b = strconv.AppendBool(append(b, `,"RW":`...), m.RW)
	return append(appendText(append(b, `,"Propagation":`...), string(m.Propagation)), '}')
}

func appendNetworks(b []byte, all map[string]*network.EndpointSettings) []byte {
	if all == nil {
		return append(b, "null"...)
	}
	b = append(b, '{')
	var few [8]string
	for i, name := range sorted(few[:0], all) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendText(b, name), ':')
		if ep := all[name]; ep == nil {
			b = append(b, "null"...)
		} else {
			b = appendEndpoint(b, ep)
		}
	}
	return append(b, '}')
}

func appendEndpoint(b []byte, ep *network.EndpointSettings) []byte {
	b = append(b, `{"IPAMConfig":`...)
	if ep.IPAMConfig == nil {
		b = append(b, "null"...)
	} else {
		b = appendRare(b, ep.IPAMConfig)
	}
	b = appendTexts(append(b, `,"Links":`...), ep.Links)
	b = appendTexts(append(b, `,"Aliases":`...), ep.Aliases)
	b = appendMap(append(b, `,"DriverOpts":`...), ep.DriverOpts)
	b = strconv.AppendInt(append(b, `,"GwPriority":`...), int64(ep.GwPriority), 10)
	b = appendText(append(b, `,"NetworkID":`...), ep.NetworkID)
	b = appendText(append(b, `,"EndpointID":`...), ep.EndpointID)
	b = appendAddr(append(b, `,"Gateway":`...), ep.Gateway)
	b = appendAddr(append(b, `,"IPAddress":`...), ep.IPAddress)
	b = appendHardwareAddr(append(b, `,"MacAddress":`...), ep.MacAddress)
	b = strconv.AppendInt(append(b, `,"IPPrefixLen":`...), int64(ep.IPPrefixLen), 10)
	b = appendAddr(append(b, `,"IPv6Gateway":`...), ep.IPv6Gateway)
	b = appendAddr(append(b, `,"GlobalIPv6Address":`...), ep.GlobalIPv6Address)
	b = strconv.AppendInt(append(b, `,"GlobalIPv6PrefixLen":`...), int64(ep.GlobalIPv6PrefixLen), 10)
	return append(appendTexts(append(b, `,"DNSNames":`...), ep.DNSNames), '}')
}

// appendManifest appends a descriptor; one that says more than those of images
// that are here do is left to encoding/json.
func appendManifest(b []byte, m *ocispec.Descriptor) []byte {
	p := m.Platform
	if p == nil || len(m.URLs)+len(m.Annotations)+len(m.Data)+len(m.ArtifactType)+len(p.OSVersion)+len(p.OSFeatures) > 0 {
		return appendRare(b, m)
	}
	b = appendText(append(b, `{"mediaType":`...), m.MediaType)
	b = appendText(append(b, `,"digest":`...), string(m.Digest))
	b = strconv.AppendInt(append(b, `,"size":`...), m.Size, 10)
	b = appendText(append(b, `,"platform":{"architecture":`...), p.Architecture)
	b = appendText(append(b, `,"os":`...), p.OS)
	if p.Variant != "" {
		b = appendText(append(b, `,"variant":`...), p.Variant)
	}
	return append(b, "}}"...)
}

// appendRare appends what is not worth code of its own.
func appendRare(b []byte, v any) []byte {
	w := appender{b}
	if err := encodeTo(&w, v); err != nil { // cannot be: plain data
		return append(b, "null"...)
	}
	return w.b[:len(w.b)-1] // the newline
}

type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

func appendList[T any](b []byte, list []T, one func([]byte, *T) []byte) []byte {
	if list == nil {
		return append(b, "null"...)
	}
	b = append(b, '[')
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = one(b, &list[i])
	}
	return append(b, ']')
}

func appendTexts(b []byte, list []string) []byte {
	return appendList(b, list, func(b []byte, s *string) []byte { return appendText(b, *s) })
}

func appendMap(b []byte, m map[string]string) []byte {
	if m == nil {
		return append(b, "null"...)
	}
	b = append(b, '{')
	var few [16]string
	for i, k := range sorted(few[:0], m) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(append(appendText(b, k), ':'), m[k])
	}
	return append(b, '}')
}

// appendAddr appends an address, an invalid one as "".
func appendAddr(b []byte, a netip.Addr) []byte {
	b = append(b, '"')
	if a.IsValid() {
		b = a.AppendTo(b)
	}
	return append(b, '"')
}

// appendHardwareAddr appends an address in the form of net.HardwareAddr.
func appendHardwareAddr(b []byte, a network.HardwareAddr) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	for i, x := range a {
		if i > 0 {
			b = append(b, ':')
		}
		b = append(b, digits[x>>4], digits[x&15])
	}
	return append(b, '"')
}

// sorted appends the keys of a map in order. What fits into to costs nothing.
func sorted[T any](to []string, m map[string]T) []string {
	for k := range m {
		to = append(to, k)
	}
	slices.Sort(to)
	return to
}

// appendText appends a text. What has to be escaped is left to encoding/json.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf || c == 0x7f {
			return appendRare(b, s)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
