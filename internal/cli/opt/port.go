package opt

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/docker/go-connections/nat"
	"github.com/moby/moby/api/types/network"
)

// Ports reads -p and --expose arguments into what the API takes.
//
//	-p [[ip:][host[-end]]:]ctr[-end][/proto]
//	-p published=…,target=…[,protocol=…]
//	--expose port[-end][/proto]
func Ports(publish, expose []string) (network.PortSet, network.PortMap, error) {
	short := make([]string, 0, len(publish))
	for _, p := range publish {
		s, err := shortPort(p)
		if err != nil {
			return nil, nil, err
		}
		short = append(short, s)
	}
	exposed, bound, err := nat.ParsePortSpecs(short)
	if err != nil {
		return nil, nil, err
	}
	set, bindings := network.PortSet{}, network.PortMap{}
	for p := range exposed {
		port, err := network.ParsePort(string(p))
		if err != nil {
			return nil, nil, err
		}
		set[port] = struct{}{}
	}
	for p, list := range bound {
		port, err := network.ParsePort(string(p))
		if err != nil {
			return nil, nil, err
		}
		for _, b := range list {
			ip := netip.Addr{}
			if b.HostIP != "" {
				if ip, err = netip.ParseAddr(b.HostIP); err != nil {
					return nil, nil, fmt.Errorf("invalid IP address: %s", b.HostIP)
				}
			}
			bindings[port] = append(bindings[port], network.PortBinding{HostIP: ip, HostPort: b.HostPort})
		}
	}
	for _, e := range expose {
		if strings.Contains(e, ":") {
			return nil, nil, fmt.Errorf("invalid port format for --expose: %s", e)
		}
		proto, port := nat.SplitProtoPort(e)
		start, end, err := portRange(port)
		if err != nil {
			return nil, nil, fmt.Errorf("invalid range format for --expose: %s, error: %w", e, err)
		}
		for n := start; n <= end; n++ {
			p, err := network.ParsePort(fmt.Sprintf("%d/%s", n, proto))
			if err != nil {
				return nil, nil, err
			}
			set[p] = struct{}{}
		}
	}
	return set, bindings, nil
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
