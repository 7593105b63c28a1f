package daemon

import (
	"cmp"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"lade/internal/engine"
	"lade/internal/engine/spec"
	"lade/internal/errdefs"
)

// validate checks every field by itself and with others. Errors are Invalid.
func (c *Config) validate() error {
	for _, check := range []func() error{
		c.API.validate, c.Paths.validate, c.Logging.validate, c.Bridge.validate, c.Registries.validate, c.Containers.validate, c.Storage.validate,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (a *API) validate() error {
	for i, h := range a.Hosts {
		host, err := parseHost(h, a.TLS)
		if err != nil {
			return err
		}
		a.Hosts[i] = host
	}
	return a.checkMetrics()
}

// parseHost completes an address to listen on. A lone host:port is TCP.
func parseHost(h string, tls bool) (string, error) {
	h = strings.TrimSpace(h)
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
	return scheme + "://" + addr, nil
}

func (p *Paths) validate() error {
	for _, d := range []struct {
		name string
		path *string
	}{{"data-root", &p.DataRoot}, {"exec-root", &p.ExecRoot}} {
		if *d.path == "" {
			return errdefs.Invalidf("invalid %s: must not be empty", d.name)
		}
		abs, err := filepath.Abs(*d.path)
		if err != nil {
			return errdefs.Invalidf("invalid %s: %w", d.name, err)
		}
		*d.path = abs
	}
	if p.DataRoot == p.ExecRoot {
		return errdefs.Invalidf("invalid exec-root: must not be the data-root %s", p.DataRoot)
	}
	if p.PIDFile == "" {
		p.PIDFile = filepath.Join(p.ExecRoot, "laded.pid")
	}
	return nil
}

func (l *Logging) validate() error {
	if l.LogLevel == "warning" {
		l.LogLevel = "warn"
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error", "fatal"}, l.LogLevel) {
		return errdefs.Invalidf("invalid logging level: %s", l.LogLevel)
	}
	if l.LogFormat != "text" && l.LogFormat != "json" {
		return errdefs.Invalidf("invalid log format: %s", l.LogFormat)
	}
	return nil
}

func (b *Bridge) validate() error {
	if b.MTU < 0 {
		return errdefs.Invalidf("invalid default MTU: %d", b.MTU)
	}
	if err := b.Limits.Check(cmp.Or(b.MTU, 1500)); err != nil {
		return err
	}
	if b.Bridge == "none" && b.BIP != "" {
		return errdefs.Invalidf("bip cannot be set when the default bridge is disabled (bridge: none)")
	}
	for _, x := range []struct{ name, value string }{
		{"bip", b.BIP}, {"bip6", b.BIP6}, {"fixed-cidr", b.FixedCIDR}, {"fixed-cidr-v6", b.FixedCIDR6},
	} {
		if x.value == "" {
			continue
		}
		p, err := netip.ParsePrefix(x.value)
		if err != nil {
			return errdefs.Invalidf("invalid %s: invalid CIDR address: %s", x.name, x.value)
		}
		if six := strings.Contains(x.name, "6"); p.Addr().Is4() == six {
			return errdefs.Invalidf("invalid %s: %s is of the other address family", x.name, x.value)
		}
	}
	for _, x := range []struct{ name, value string }{
		{"default-gateway", b.DefaultGateway}, {"default-gateway-v6", b.DefaultGateway6}, {"ip", b.HostIP},
	} {
		if _, err := netip.ParseAddr(x.value); x.value != "" && err != nil {
			return errdefs.Invalidf("invalid %s: %s is not an ip address", x.name, x.value)
		}
	}
	for _, d := range b.DNS {
		if _, err := netip.ParseAddr(strings.TrimSpace(d)); err != nil {
			return errdefs.Invalidf("IP address is not correctly formatted: %s", d)
		}
	}
	for _, d := range b.HostGatewayIPs {
		if _, err := netip.ParseAddr(d); err != nil {
			return errdefs.Invalidf("invalid host-gateway-ip: IP address is not correctly formatted: %s", d)
		}
	}
	for _, pool := range b.AddressPools {
		base, err := netip.ParsePrefix(pool.Base)
		if err != nil {
			return errdefs.Invalidf("invalid base pool %q: invalid CIDR address: %s", pool.Base, pool.Base)
		}
		if pool.Size < base.Bits() || pool.Size > base.Addr().BitLen() {
			return errdefs.Invalidf("invalid pools size: size %d of pool %s", pool.Size, pool.Base)
		}
	}
	return nil
}

func (r *Registries) validate() error {
	for _, x := range []struct {
		name string
		n    int
		min  int
	}{
		{"max transfers", r.MaxTransfers, 0}, {"max concurrent downloads", r.MaxDownloads, 0}, {"max concurrent uploads", r.MaxUploads, 0}, {"max download attempts", r.MaxDownloadAttempts, 1},
	} {
		if x.n < x.min {
			return errdefs.Invalidf("invalid %s: %d", x.name, x.n)
		}
	}
	for i, m := range r.Mirrors {
		u, err := url.Parse(m)
		if err != nil {
			return errdefs.Invalidf("invalid mirror: %q is not a valid URI: %w", m, err)
		}
		if u.Scheme != "http" && u.Scheme != "https" {
			return errdefs.Invalidf("invalid mirror: unsupported scheme %q in %q", u.Scheme, m)
		}
		if u.RawQuery != "" || u.Fragment != "" {
			return errdefs.Invalidf("invalid mirror: query or fragment in %q", m)
		}
		r.Mirrors[i] = strings.TrimSuffix(m, "/") + "/"
	}
	for name, h := range r.Named {
		if err := h.Check(name); err != nil {
			return err
		}
	}
	for _, h := range r.Insecure {
		if strings.Contains(h, "://") {
			return errdefs.Invalidf("insecure registry %s should not contain '://'", h)
		}
	}
	return nil
}

func (c *Containers) validate() error {
	for i, l := range c.Labels {
		key, value, ok := strings.Cut(l, "=")
		if !ok || key == "" {
			return errdefs.Invalidf("bad attribute format: %s", l)
		}
		for _, other := range c.Labels[:i] {
			if k, v, _ := strings.Cut(other, "="); k == key && v != value {
				return errdefs.Invalidf("conflict labels for %s=%s and %s=%s", key, v, key, value)
			}
		}
	}
	switch c.CgroupNamespace {
	case "", "host", "private":
	default:
		return errdefs.Invalidf("default cgroup namespace mode %q is invalid. Use \"host\" or \"private\"", c.CgroupNamespace)
	}
	if c.IPCMode != "private" && c.IPCMode != "shareable" {
		return errdefs.Invalidf("invalid IPC mode: IPC mode %q is not supported", c.IPCMode)
	}
	if c.ShmSize < 0 {
		return errdefs.Invalidf("invalid default-shm-size: %d", c.ShmSize)
	}
	if c.StopTimeout < 0 {
		return errdefs.Invalidf("invalid default-stop-timeout: %d", c.StopTimeout)
	}
	if c.ShutdownTimeout < 0 {
		c.ShutdownTimeout = 1 << 62 // dockerd's -1: wait
	}
	for name, r := range c.Runtimes {
		if engine.ReservedRuntime(name) {
			return errdefs.Invalidf("runtime name '%s' is reserved", name)
		}
		if r.Path == "" && r.Type == "" {
			return errdefs.Invalidf("runtime %s: either a runtimeType or a path must be configured", name)
		}
		if r.Path != "" && r.Type != "" {
			return errdefs.Invalidf("runtime %s: cannot configure both path and runtimeType for the same runtime", name)
		}
		if r.Type != "" && r.binary() == "" {
			return errdefs.Invalidf("runtime %s: runtimeType %s is a shim of containerd, which lade does not use: configure the path of the runtime itself", name, r.Type)
		}
	}
	all := runtimesOf(c)
	if _, _, err := all.Find(""); err != nil {
		return errdefs.Invalidf("specified default runtime '%s' does not exist", c.DefaultRuntime)
	}
	for _, o := range c.ExecOptions {
		key, value, _ := strings.Cut(o, "=")
		if key != "native.cgroupdriver" {
			return errdefs.Invalidf("invalid exec-opt %q: unknown option", o)
		}
		if value != "cgroupfs" && value != "systemd" {
			return errdefs.Invalidf("native.cgroupdriver option %s not supported", value)
		}
	}
	return spec.CheckCgroupParent(c.CgroupParent, c.systemdGroups())
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
