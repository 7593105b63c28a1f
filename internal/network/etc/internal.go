package etc

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// InternalServer is the address of the name server that every container on a
// user-defined network has.
const InternalServer = "127.0.0.11"

// Internal is what a container on a user-defined network is told of names.
type Internal struct {
	File []byte // its /etc/resolv.conf
	// Servers are those of the container's own settings; its name server asks them
	// from its namespace. Without, the host's are asked, from the host's.
	Servers []string
	// NDots: ndots was set to more than 0, by the user or in the host's file. Then
	// a name without a dot is asked for again with a domain, and never outside
	// without.
	NDots bool
}

// ResolvInternal returns resolv.conf for a container on a user-defined network,
// byte for byte as Docker does apart from the first lines. The arguments are those
// of Resolv.
func ResolvInternal(host []byte, dns, search, options []string) Internal {
	in := Internal{Servers: dns}
	ndots := "host"
	overrides := []string{}
	var hostSearch, hostOptions []string
	for f := range fields(host) {
		switch f[0] {
		case "domain", "search":
			hostSearch = f[1:]
		case "options":
			hostOptions = append(hostOptions, f[1:]...)
		}
	}
	if len(dns) > 0 {
		overrides = append(overrides, "nameservers")
	}
	if len(search) > 0 {
		overrides = append(overrides, "search")
	} else {
		search = hostSearch
	}
	if len(options) > 0 {
		overrides, ndots = append(overrides, "options"), "override"
	} else {
		options = hostOptions
	}
	if slices.Equal(search, []string{"."}) {
		search = nil
	}
	options, in.NDots, ndots = withNDots(options, ndots)

	var b bytes.Buffer
	b.WriteString(head + "nameserver " + InternalServer + "\n")
	if len(search) > 0 {
		b.WriteString("search " + strings.Join(search, " ") + "\n")
	}
	b.WriteString("options " + strings.Join(options, " ") + "\n")
	servers := slices.Clone(dns)
	if len(dns) == 0 {
		for _, a := range Nameservers(host) {
			servers = append(servers, "host("+a.String()+")")
		}
	}
	b.WriteString("\n# Based on host file: '" + etcResolv + "' (internal resolver)\n")
	b.WriteString("# ExtServers: [" + strings.Join(servers, " ") + "]\n")
	b.WriteString("# Overrides: [" + strings.Join(overrides, " ") + "]\n")
	b.WriteString("# Option ndots from: " + ndots + "\n")
	in.File = b.Bytes()
	return in
}

// withNDots adds ndots:0, without which a name of one label would be asked for
// with each domain of the search list first, unless another number is there.
func withNDots(options []string, from string) (with []string, set bool, by string) {
	for _, o := range options {
		if n, ok := strings.CutPrefix(o, "ndots:"); ok {
			if i, err := strconv.Atoi(n); err == nil && i >= 0 {
				return options, i > 0, from
			}
			options = slices.DeleteFunc(slices.Clone(options), func(x string) bool { return x == o })
		}
	}
	return append(slices.Clone(options), "ndots:0"), false, "internal"
}

// HostFile is the host's resolv.conf as it is: what Host returns leaves the stub of
// systemd-resolved out, which a name server outside of containers reaches.
const HostFile = etcResolv
