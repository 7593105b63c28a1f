package publish

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/network"

	"lade/internal/errdefs"
	"lade/internal/iprange"
)

const (
	// All is the annotation for all ports of a container, and with a dot the
	// beginning of those for single ones.
	All = "lade.publish"
	// Held begins the annotations that say how a port is published. Only the engine
	// makes them.
	Held = "lade.published."
)

// Options are how a port is published.
type Options struct {
	Policy string          `json:",omitempty"` // dnat or gate; "": as network or engine have it
	From   []iprange.Range `json:",omitempty"` // who may connect; nil: everybody
}

// Empty reports whether the options say nothing.
func (o Options) Empty() bool { return o.Policy == "" && o.From == nil }

// Parse reads "policy=gate,from=10.0.0.0/8,from=…". Errors: Invalid.
func Parse(s string) (o Options, err error) {
	for part := range strings.SplitSeq(s, ",") {
		name, value, _ := strings.Cut(part, "=")
		switch name {
		case "policy":
			if value != "dnat" && value != "gate" {
				return o, errdefs.Invalidf("invalid publish policy %q: want dnat or gate", value)
			}
			o.Policy = value
		case "from":
			r, err := iprange.Parse(value)
			if err != nil {
				return o, err
			}
			o.From = append(o.From, r)
		default:
			return o, errdefs.Invalidf("invalid option %q of a published port: want policy= or from=", part)
		}
	}
	return o, nil
}

// String returns the options as Parse reads them.
func (o Options) String() string {
	var parts []string
	if o.Policy != "" {
		parts = append(parts, "policy="+o.Policy)
	}
	for _, r := range o.From {
		parts = append(parts, "from="+r.String())
	}
	return strings.Join(parts, ",")
}

// Binding is a port of the host with options, in the body of ContainerUpdate.
type Binding struct {
	network.PortBinding
	Options
}

// Ports are bindings by the container's port.
type Ports map[network.Port][]Binding

// Name writes a port as -p does: "[IP:]HOST:PORT/PROTO", and without a port of the
// host "[IP::]PORT/PROTO".
func Name(p network.Port, b network.PortBinding) string {
	switch {
	case b.HostIP.IsValid():
		return net.JoinHostPort(b.HostIP.String(), b.HostPort) + ":" + p.String()
	case b.HostPort != "":
		return b.HostPort + ":" + p.String()
	}
	return p.String()
}

// names are the annotations that may say something of a port, the most particular
// one first.
func names(p network.Port, b network.PortBinding) []string {
	all := []string{Name(p, b), Name(p, network.PortBinding{HostPort: b.HostPort}), p.String()}
	out := make([]string, 0, 2*len(all)+1)
	for _, n := range all {
		out = append(out, All+"."+n)
		if short, ok := strings.CutSuffix(n, "/tcp"); ok {
			out = append(out, All+"."+short)
		}
	}
	return append(out, All)
}

// Of returns what annotations say of a port. Errors: Invalid.
func Of(annotations map[string]string, p network.Port, b network.PortBinding) (Options, error) {
	for _, name := range names(p, b) {
		if v, ok := annotations[name]; ok {
			o, err := Parse(v)
			if err != nil {
				return o, errdefs.Invalidf("annotation %s: %w", name, err)
			}
			return o, nil
		}
	}
	return Options{}, nil
}

// Check refuses annotations that are malformed, or of ports that are not in
// bindings: a typing error must not open a port to everybody.
func Check(annotations map[string]string, bindings network.PortMap) error {
	known := map[string]bool{All: true}
	for p, list := range bindings {
		if len(list) == 0 {
			list = []network.PortBinding{{}}
		}
		for _, b := range list {
			for _, n := range names(p, b) {
				known[n] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(annotations)) {
		if name != All && !strings.HasPrefix(name, All+".") {
			continue
		}
		if !known[name] {
			return errdefs.Invalidf("annotation %s: the container publishes no such port", name)
		}
		if _, err := Parse(annotations[name]); err != nil {
			return errdefs.Invalidf("annotation %s: %w", name, err)
		}
	}
	return nil
}

// Port is one that is published, as Shown returns it.
type Port struct {
	HostIP   netip.Addr
	HostPort string
	Port     network.Port
}

// Annotation is the name of the annotation that says how the port is published.
func (p Port) Annotation() string {
	return Held + Name(p.Port, network.PortBinding{HostIP: p.HostIP, HostPort: p.HostPort})
}
