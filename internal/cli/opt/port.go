package opt

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/docker/go-connections/nat"
	"github.com/moby/moby/api/types/network"

	"lade/internal/publish"
)

// Ports reads -p and --expose arguments into what the API takes.
//
//	-p [[ip:][host[-end]]:]ctr[-end][/proto][,policy=…][,from=…]…
//	-p published=…,target=…[,protocol=…][,policy=…][,from=…]…
//	--expose port[-end][/proto]
//
// notes are the annotations that carry policies and sources.
func Ports(specs, expose []string) (set network.PortSet, bindings network.PortMap, notes map[string]string, err error) {
	set, bindings, notes = network.PortSet{}, network.PortMap{}, map[string]string{}
	all, err := Publish(specs)
	if err != nil {
		return nil, nil, nil, err
	}
	for p, list := range all {
		set[p] = struct{}{}
		for _, b := range list {
			bindings[p] = append(bindings[p], b.PortBinding)
			if !b.Empty() {
				notes[publish.All+"."+publish.Name(p, b.PortBinding)] = b.String()
			}
		}
	}
	for _, e := range expose {
		if strings.Contains(e, ":") {
			return nil, nil, nil, fmt.Errorf("invalid port format for --expose: %s", e)
		}
		proto, port := nat.SplitProtoPort(e)
		start, end, err := portRange(port)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("invalid range format for --expose: %s, error: %w", e, err)
		}
		for n := start; n <= end; n++ {
			p, err := network.ParsePort(fmt.Sprintf("%d/%s", n, proto))
			if err != nil {
				return nil, nil, nil, err
			}
			set[p] = struct{}{}
		}
	}
	return set, bindings, notes, nil
}

// Publish reads -p arguments.
func Publish(specs []string) (publish.Ports, error) {
	out := publish.Ports{}
	for _, spec := range specs {
		spec, options, err := portOptions(spec)
		if err != nil {
			return nil, err
		}
		short, err := shortPort(spec)
		if err != nil {
			return nil, err
		}
		_, bound, err := nat.ParsePortSpecs([]string{short})
		if err != nil {
			return nil, err
		}
		for p, list := range bound {
			port, err := network.ParsePort(string(p))
			if err != nil {
				return nil, err
			}
			for _, b := range list {
				ip := netip.Addr{}
				if b.HostIP != "" {
					if ip, err = netip.ParseAddr(b.HostIP); err != nil {
						return nil, fmt.Errorf("invalid IP address: %s", b.HostIP)
					}
				}
				out[port] = append(out[port], publish.Binding{PortBinding: network.PortBinding{HostIP: ip, HostPort: b.HostPort}, Options: options})
			}
		}
	}
	return out, nil
}

// portOptions takes policy= and from= out of a -p argument. Docker's words for
// everything else stay.
func portOptions(spec string) (rest string, o publish.Options, err error) {
	var parts, options []string
	for part := range strings.SplitSeq(spec, ",") {
		if strings.HasPrefix(part, "policy=") || strings.HasPrefix(part, "from=") {
			options = append(options, part)
		} else {
			parts = append(parts, part)
		}
	}
	if options == nil {
		return spec, o, nil
	}
	o, err = publish.Parse(strings.Join(options, ","))
	return strings.Join(parts, ","), o, err
}

// portRange parses port[-end].
func portRange(s string) (start, end uint64, err error) {
	if s == "" {
		return 0, 0, errors.New("empty string specified for ports")
	}
	first, last, ok := strings.Cut(s, "-")
	if start, err = strconv.ParseUint(first, 10, 16); err != nil || !ok {
		return start, start, err
	}
	if end, err = strconv.ParseUint(last, 10, 16); err == nil && end < start {
		err = errors.New("invalid range specified for port: " + s)
	}
	return start, end, err
}

// shortPort turns published=80,target=80 into the short form.
func shortPort(p string) (string, error) {
	if !strings.Contains(p, "=") {
		return p, nil
	}
	m := map[string]string{"protocol": "tcp"}
	for kv := range strings.SplitSeq(p, ",") {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return "", fmt.Errorf("invalid publish opts format (should be name=value but got '%s')", kv)
		}
		m[k] = v
	}
	return fmt.Sprintf("%s:%s/%s", m["published"], m["target"], m["protocol"]), nil
}
