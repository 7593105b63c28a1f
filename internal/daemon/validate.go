package daemon

import (
	"cmp"
	"maps"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"

	"lade/internal/engine"
	"lade/internal/engine/logdriver"
	"lade/internal/engine/spec"
	"lade/internal/errdefs"
	"lade/internal/network"
	"lade/internal/server/compat"
)

// validate checks every field by itself and with others, and completes what is
// left out. It notes all that is wrong.
func (c *Config) validate(p *problems) {
	for _, check := range []func(*problems){
		c.API.validate, c.Paths.validate, c.Logging.validate, c.Bridge.validate, c.Registries.validate, c.Containers.validate,
	} {
		check(p)
	}
	p.add(c.Storage.validate())
}

func (a *API) validate(p *problems) {
	for i, h := range a.Hosts {
		host, err := parseHost(h, a.TLS)
		if err != nil {
			p.add(err)
			continue
		}
		a.Hosts[i] = host
	}
	if a.MinVersion != "" {
		_, err := compat.Check(a.MinVersion)
		if err != nil {
			p.invalid("invalid min-api-version %q: must be from %s to %s", a.MinVersion, compat.Oldest, compat.Newest)
		}
	}
	for _, n := range a.Authorization {
		if n == "" || strings.ContainsRune(n, '/') {
			p.invalid("invalid authorization plugin %q: must be a name", n)
		}
	}
	p.add(a.checkMetrics())
}

// parseHost completes an address to listen on. A lone host:port is TCP.
func parseHost(h string, tls bool) (string, error) {
	h = strings.TrimSpace(h)
	whole := h
	h, _, err := cutTerms(h)
	if err != nil {
		return "", err
	}
	behind := whole[len(h):]
	scheme, addr, ok := strings.Cut(h, "://")
	if !ok {
		scheme, addr = "tcp", h
	}
	switch scheme {
	case "unix":
		if addr == "" {
			addr = defaultSocket
		}
		if !filepath.IsAbs(addr) {
			return "", errdefs.Invalidf("invalid bind address (%s): the path of a unix socket must be absolute", h)
		}
	case "fd":
	case "tcp":
		u, err := url.Parse("tcp://" + addr)
		if err != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil {
			return "", errdefs.Invalidf("invalid bind address (%s): should not contain a path element", h)
		}
		host, port := u.Hostname(), u.Port()
		if host == "" {
			host = "127.0.0.1"
		}
		if port == "" {
			port = "2375"
			if tls {
				port = "2376"
			}
		}
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		addr = host + ":" + port
	default:
		return "", errdefs.Invalidf("invalid bind address (%s): unsupported proto '%s'", h, scheme)
	}
	return scheme + "://" + addr + behind, nil
}

func (d *Paths) validate(p *problems) {
	for _, x := range []struct {
		name string
		path *string
	}{{"data-root", &d.DataRoot}, {"exec-root", &d.ExecRoot}} {
		if *x.path == "" {
			p.invalid("invalid %s: must not be empty", x.name)
			continue
		}
		abs, err := filepath.Abs(*x.path)
		if err != nil {
			p.invalid("invalid %s: %w", x.name, err)
			continue
		}
		*x.path = abs
	}
	if d.DataRoot == d.ExecRoot {
		p.invalid("invalid exec-root: must not be the data-root %s", d.DataRoot)
	}
	if d.PIDFile == "" {
		d.PIDFile = filepath.Join(d.ExecRoot, "laded.pid")
	}
}

func (l *Logging) validate(p *problems) {
	if l.LogLevel == "warning" {
		l.LogLevel = "warn"
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error", "fatal"}, l.LogLevel) {
		p.invalid("invalid logging level: %s", l.LogLevel)
	}
	if l.LogFormat != "text" && l.LogFormat != "json" {
		p.invalid("invalid log format: %s", l.LogFormat)
	}
}

func (b *Bridge) validate(p *problems) {
	if b.MTU < 0 {
		p.invalid("invalid default MTU: %d", b.MTU)
	}
	p.add(b.Limits.Check(cmp.Or(max(b.MTU, 0), 1500)))
	p.add(network.CheckPolicy(b.PublishPolicy))
	if _, err := network.ParseMark(b.AcceptMark); err != nil {
		p.invalid("invalid bridge-accept-fwmark: %w", err)
	}
	switch b.Firewall {
	case "", nftables:
	case "iptables":
		p.invalid("invalid firewall-backend %q: rules are made with nftables; those of iptables hold beside them, but there are no chains such as DOCKER-USER", b.Firewall)
	default:
		p.invalid("invalid firewall-backend %q", b.Firewall)
	}
	if b.Bridge == "none" && b.BIP != "" {
		p.invalid("bip cannot be set when the default bridge is disabled (bridge: none)")
	}
	for _, x := range []struct{ name, value string }{
		{"bip", b.BIP}, {"bip6", b.BIP6}, {"fixed-cidr", b.FixedCIDR}, {"fixed-cidr-v6", b.FixedCIDR6},
	} {
		if x.value == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(x.value)
		if err != nil {
			p.invalid("invalid %s: invalid CIDR address: %s", x.name, x.value)
			continue
		}
		if six := strings.Contains(x.name, "6"); prefix.Addr().Is4() == six {
			p.invalid("invalid %s: %s is of the other address family", x.name, x.value)
		}
	}
	for _, x := range []struct{ name, value string }{
		{"default-gateway", b.DefaultGateway}, {"default-gateway-v6", b.DefaultGateway6}, {"ip", b.HostIP},
	} {
		if _, err := netip.ParseAddr(x.value); x.value != "" && err != nil {
			p.invalid("invalid %s: %s is not an ip address", x.name, x.value)
		}
	}
	for _, d := range b.DNS {
		if _, err := netip.ParseAddr(strings.TrimSpace(d)); err != nil {
			p.invalid("IP address is not correctly formatted: %s", d)
		}
	}
	for _, d := range b.HostGatewayIPs {
		if _, err := netip.ParseAddr(d); err != nil {
			p.invalid("invalid host-gateway-ip: IP address is not correctly formatted: %s", d)
		}
	}
	for driver, options := range b.NetworkOptions {
		if driver == "" || len(options) == 0 {
			p.invalid("invalid default-network-opts: %q has no options", driver)
		}
	}
	for _, pool := range b.AddressPools {
		base, err := netip.ParsePrefix(pool.Base)
		if err != nil {
			p.invalid("invalid base pool %q: invalid CIDR address: %s", pool.Base, pool.Base)
			continue
		}
		if pool.Size < base.Bits() || pool.Size > base.Addr().BitLen() {
			p.invalid("invalid pools size: size %d of pool %s", pool.Size, pool.Base)
		}
	}
}

func (r *Registries) validate(p *problems) {
	for _, x := range []struct {
		name string
		n    int
		min  int
	}{
		{"max transfers", r.MaxTransfers, 0}, {"max concurrent downloads", r.MaxDownloads, 0}, {"max concurrent uploads", r.MaxUploads, 0}, {"max download attempts", r.MaxDownloadAttempts, 1},
	} {
		if x.n < x.min {
			p.invalid("invalid %s: %d", x.name, x.n)
		}
	}
	for i, m := range r.Mirrors {
		u, err := url.Parse(m)
		if err != nil {
			p.invalid("invalid mirror: %q is not a valid URI: %w", m, err)
			continue
		}
		if u.Scheme != "http" && u.Scheme != "https" {
			p.invalid("invalid mirror: unsupported scheme %q in %q", u.Scheme, m)
		}
		if u.RawQuery != "" || u.Fragment != "" {
			p.invalid("invalid mirror: query or fragment in %q", m)
		}
		r.Mirrors[i] = strings.TrimSuffix(m, "/") + "/"
	}
	for name, h := range r.Named {
		p.add(h.Check(name))
	}
	for _, h := range r.Insecure {
		if strings.Contains(h, "://") {
			p.invalid("insecure registry %s should not contain '://'", h)
		}
	}
}

func (c *Containers) validate(p *problems) {
	for i, l := range c.Labels {
		key, value, ok := strings.Cut(l, "=")
		if !ok || key == "" {
			p.invalid("bad attribute format: %s", l)
			continue
		}
		for _, other := range c.Labels[:i] {
			if k, v, _ := strings.Cut(other, "="); k == key && v != value {
				p.invalid("conflict labels for %s=%s and %s=%s", key, v, key, value)
			}
		}
	}
	switch c.CgroupNamespace {
	case "", "host", "private":
	default:
		p.invalid("default cgroup namespace mode %q is invalid. Use \"host\" or \"private\"", c.CgroupNamespace)
	}
	if c.Rootless {
		p.invalid("rootless mode is not there: laded needs root; containers can have users of their own without it (userns-remap)")
	}
	if strings.ContainsAny(c.AppArmorProfile, "\n\x00") {
		p.invalid("invalid apparmor-profile %q", c.AppArmorProfile)
	}
	if c.IPCMode != "private" && c.IPCMode != "shareable" {
		p.invalid("invalid IPC mode: IPC mode %q is not supported", c.IPCMode)
	}
	if c.ShmSize < 0 {
		p.invalid("invalid default-shm-size: %d", c.ShmSize)
	}
	if c.OOMScoreAdjust < -1000 || c.OOMScoreAdjust > 1000 {
		p.invalid("invalid oom-score-adjust: %d is not between -1000 and 1000", c.OOMScoreAdjust)
	}
	if c.StopTimeout < 0 {
		p.invalid("invalid default-stop-timeout: %d", c.StopTimeout)
	}
	if c.ShutdownTimeout < 0 {
		c.ShutdownTimeout = 1 << 62 // dockerd's -1: wait
	}
	for _, name := range slices.Sorted(maps.Keys(c.Runtimes)) {
		r := c.Runtimes[name]
		if engine.ReservedRuntime(name) {
			p.invalid("runtime name '%s' is reserved", name)
		}
		if r.Path == "" && r.Type == "" {
			p.invalid("runtime %s: either a runtimeType or a path must be configured", name)
		}
		if r.Path != "" && r.Type != "" {
			p.invalid("runtime %s: cannot configure both path and runtimeType for the same runtime", name)
		}
		if r.Type != "" && r.binary() == "" {
			p.invalid("runtime %s: runtimeType %s is a shim of containerd, which lade does not use: configure the path of the runtime itself", name, r.Type)
		}
	}
	all := runtimesOf(c)
	if _, _, err := all.Find(""); err != nil {
		p.invalid("specified default runtime '%s' does not exist", c.DefaultRuntime)
	}
	for _, o := range c.ExecOptions {
		key, value, _ := strings.Cut(o, "=")
		if key != "native.cgroupdriver" {
			p.invalid("invalid exec-opt %q: unknown option", o)
			continue
		}
		if value != "cgroupfs" && value != "systemd" {
			p.invalid("native.cgroupdriver option %s not supported", value)
		}
	}
	p.add(spec.CheckCgroupParent(c.CgroupParent, c.systemdGroups()))
	p.add(logdriver.Check(container.LogConfig{Type: c.LogDriver, Config: c.LogOptions}))
	_, err := seccompDefault(c.SeccompProfile)
	p.add(err)
}

// systemdGroups reports whether control groups are to be units of systemd; of
// several options the last counts.
func (c *Containers) systemdGroups() bool {
	yes := false
	for _, o := range c.ExecOptions {
		if key, value, _ := strings.Cut(o, "="); key == "native.cgroupdriver" {
			yes = value == "systemd"
		}
	}
	return yes
}
