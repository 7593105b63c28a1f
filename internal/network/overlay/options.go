package overlay

import (
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"lade/internal/errdefs"
)

// The options of an overlay network. VNIList is Docker's name for VNI.
const (
	optPeers     = "peers"
	optVNI       = "vni"
	optVNIList   = "com.docker.network.driver.overlay.vxlanid_list"
	optPort      = "port"
	optLocal     = "local"
	optSlices    = "slices"
	optBridges   = "bridges"
	optEncrypted = "encrypted"
	optKey       = "key"
)

// Ports of the UDP datagrams. Those of encrypted networks are others, because
// the kernel tells by the port what must be encrypted (docs/adr/0032).
const (
	Port          = 4789 // RFC 7348
	EncryptedPort = 4788
)

// NamesPort is the UDP port on which hosts ask each other for names, on the
// networks' own addresses (docs/adr/0048).
const NamesPort = 4787

// maxPeers is how many hosts a network may have: what goes to all is sent to
// each of them.
const maxPeers = 256

// Options are what the creator of a network asks for.
type Options struct {
	Peers     []string   // addresses and names of hosts, perhaps this one among them
	VNI       uint32     // VXLAN network identifier
	Port      uint16     // of UDP
	Local     netip.Addr // this host's address; zero: the one of the peers that this host has
	Slices    int        // in how many parts the subnet is divided; 0: see Place
	Encrypted bool
	Key       string // file with the key that all hosts have
	// Given are the addresses that the hosts' bridges have in the network, where
	// people chose them; nil: they can be worked out.
	Given []netip.Addr
}

// Known reports whether an option is one of those that Parse reads.
func Known(name string) bool {
	switch name {
	case optPeers, optVNI, optVNIList, optPort, optLocal, optSlices, optBridges, optEncrypted, optKey:
		return true
	}
	return false
}

// Parse reads the options of a network; those that are not Known are somebody
// else's. Without a VNI all hosts take the same one, by the network's name.
// Errors: Invalid.
func Parse(network string, o map[string]string) (Options, error) {
	out := Options{VNI: vniOf(network)}
	for _, name := range slices.Sorted(maps.Keys(o)) {
		v := o[name]
		var err error
		switch name {
		case optPeers:
			out.Peers, err = parsePeers(v)
		case optVNI, optVNIList:
			out.VNI, err = parseVNI(v)
		case optPort:
			var port uint64
			if port, err = strconv.ParseUint(v, 10, 16); port == 0 {
				err = errors.New("not a port")
			}
			out.Port = uint16(port)
		case optLocal:
			if out.Local, err = netip.ParseAddr(v); err == nil && !usable(out.Local) {
				err = errors.New("not the address of a host")
			}
		case optSlices:
			out.Slices, err = strconv.Atoi(v)
			if err != nil || out.Slices < 1 || out.Slices > maxSlices || out.Slices&(out.Slices-1) != 0 {
				err = fmt.Errorf("not a power of two up to %d", maxSlices)
			}
		case optBridges:
			out.Given, err = parseBridges(v)
		case optEncrypted:
			if out.Encrypted = v == ""; v != "" { // Docker: its presence says it
				out.Encrypted, err = strconv.ParseBool(v)
			}
		case optKey:
			if out.Key = v; !strings.HasPrefix(v, "/") {
				err = errors.New("not an absolute path")
			}
		}
		if err != nil {
			return out, errdefs.Invalidf("invalid value for driver-opt %q: %q: %w", name, v, err)
		}
	}
	return out, out.complete()
}

// complete checks what belongs together.
func (o *Options) complete() error {
	switch {
	case len(o.Peers) == 0:
		return errdefs.Invalidf("an overlay network needs its hosts: --opt peers=10.0.0.2,10.0.0.3, or a name that stands for them")
	case o.Encrypted && o.Key == "":
		return errdefs.Invalidf("an encrypted overlay network needs a key that all its hosts have: --opt key=FILE")
	case !o.Encrypted && o.Key != "":
		return errdefs.Invalidf("a key is for an encrypted overlay network: --opt encrypted")
	}
	if o.Port == 0 {
		o.Port = Port
		if o.Encrypted {
			o.Port = EncryptedPort
		}
	}
	return nil
}

func parsePeers(list string) ([]string, error) {
	peers := strings.Split(list, ",")
	for i, p := range peers {
		p = strings.TrimSpace(p)
		peers[i] = p
		a, err := netip.ParseAddr(p)
		switch {
		case err == nil && !usable(a):
			return nil, fmt.Errorf("%s is not the address of a host", p)
		case err != nil && !hostName(p):
			return nil, fmt.Errorf("%q is neither an address nor a name", p)
		case slices.Contains(peers[:i], p):
			return nil, fmt.Errorf("%s is there twice", p)
		}
	}
	if len(peers) > maxPeers {
		return nil, fmt.Errorf("more than %d peers", maxPeers)
	}
	return peers, nil
}

func parseBridges(list string) (out []netip.Addr, err error) {
	for a := range strings.SplitSeq(list, ",") {
		ip, err := netip.ParseAddr(strings.TrimSpace(a))
		if err != nil {
			return nil, err
		}
		if slices.Contains(out, ip) {
			return nil, fmt.Errorf("%s is there twice", ip)
		}
		out = append(out, ip)
	}
	if len(out) > maxPeers {
		return nil, fmt.Errorf("more than %d bridges", maxPeers)
	}
	return out, nil
}

// usable reports whether a host can have an address for others to send to. An
// address with a zone means another link on each host.
func usable(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.Is4In6() && (a.IsGlobalUnicast() || a.IsLoopback())
}

// hostName reports whether s may be a host's name in the DNS: letters, digits,
// hyphens, and labels with underscores, which services have.
func hostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || strings.Trim(strings.ToLower(label), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	last := s[strings.LastIndexByte(strings.TrimSuffix(s, "."), '.')+1:]
	return strings.ContainsFunc(last, func(r rune) bool { return r < '0' || r > '9' }) // else an address with a typing error
}

// vniOf returns the identifier of a network that is given none. Those below 4096
// stay for people, as in Docker.
func vniOf(network string) uint32 {
	const first, all = 4096, 1 << 24
	h := fnv.New32a()
	h.Write([]byte(network))
	return first + h.Sum32()%(all-first)
}

func parseVNI(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 24)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("not one number between 1 and %d", 1<<24-1)
	}
	return uint32(n), nil
}
