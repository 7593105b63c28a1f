package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"

	"lade/internal/builtin"
	"lade/internal/content"
	"lade/internal/engine"
	"lade/internal/engine/builder"
	"lade/internal/engine/spec"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/sys"
	"lade/internal/linux/systemd"
	"lade/internal/network"
	"lade/internal/network/cni"
	"lade/internal/network/gate"
	"lade/internal/network/ipam"
	"lade/internal/plugin"
	"lade/internal/registry"
	"lade/internal/server"
	"lade/internal/server/authz"
	"lade/internal/server/compat"
	"lade/internal/store"
	"lade/internal/supervisor"
	"lade/internal/volume"
)

// memoryTarget keeps the garbage collector from letting an idle daemon grow.
const memoryTarget = 50 // GOGC

// Main runs the daemon until a signal ends it, and returns the exit code.
func Main(ctx context.Context, b engine.Build, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "check" {
		return check(ctx, args[1:], stdout, stderr)
	}
	if len(args) > 0 && args[0] == "log-relay" {
		return serveRelay(ctx, args[1:], stderr)
	}
	if len(args) > 0 && args[0] == "logs" {
		return printLogs(ctx, args[1:], stdout, stderr)
	}
	debug.SetGCPercent(memoryTarget)
	return start(ctx, b, args, stdout, stderr, func(ctx context.Context, c *Config, log *slog.Logger) (*engineService, error) {
		if os.Getuid() != 0 {
			return nil, errdefs.Forbiddenf("laded needs to be started with root privileges")
		}
		p, err := open(ctx, c, b, log)
		if err != nil {
			return nil, err
		}
		p.engine.Resume()
		authorization := authz.NewChain(c.Authorization, plugin.Docker())
		oldest := compat.Oldest
		if c.MinVersion != "" {
			if oldest, err = compat.Check(c.MinVersion); err != nil {
				return nil, err
			}
		}
		handler := server.New(p.engine, server.Options{
			Version: b.Version, Logger: log, Load: newProcessors().change, Oldest: oldest, Authorization: authorization,
			Experimental: c.Experimental, Builder: builderOf(c.Features),
		})
		reload := func(c *Config, changed []change) {
			authorization.Replace(c.Authorization)
			p.reload(c, changed)
		}
		return &engineService{Handler: handler, Reload: reload, Close: func() error { return p.close(log) }}, nil
	})
}

// builderOf is the builder that clients are told to use, as server.Options has it.
func builderOf(features map[string]bool) string {
	if on, said := features[buildkit]; said && !on {
		return "1"
	}
	return "2"
}

// parts is what the engine is made of, in the order of making.
type parts struct {
	store      *store.Store
	snapshots  *storage
	registries registry.Config // what a reload leaves alone
	registry   *registry.Live
	networks   *network.Networks
	volumes    *volume.Volumes
	engine     *engine.Engine
	systemd    *systemd.Manager // nil: control groups are made directly
	relay      *relayKeeper
	security   spec.SecurityDefaults
}

// open makes the parts and brings the engine up. On error everything is
// closed again. What waits for the disk, the kernel or another process is made
// side by side.
func open(ctx context.Context, c *Config, b engine.Build, log *slog.Logger) (p *parts, err error) {
	p = &parts{}
	if err := useProxies(&c.Registries); err != nil {
		return p, err
	}
	var early, snapshotter, networks step
	defer func() {
		if err != nil {
			for _, s := range []*step{&early, &snapshotter, &networks} {
				_ = s.wait() // one error is enough
			}
			err = errors.Join(err, p.close(log))
		}
	}()
	so := supervisor.Options{
		Root: c.ExecRoot, Binary: beside(c.Supervisor, "lade-supervisor"),
		Args: []string{"--init", beside(c.InitPath, "lade-init")}, Logger: log,
	}
	p.relay = newRelayKeeper(ctx, c.ExecRoot, log)
	early.begin(func() error { return supervisor.Start(ctx, so) })
	if p.store, err = store.Open(filepath.Join(c.DataRoot, "records"), log); err != nil {
		return p, err
	}
	// The data is ours alone from here on: the store says so.
	snapshotter.begin(func() (err error) {
		p.snapshots, err = openStorage(ctx, c, log)
		return err
	})
	networks.begin(func() (err error) {
		nc, err := networkConfig(c)
		if err != nil {
			return err
		}
		nc.Store, nc.Logger, nc.Plugins, nc.CNI = p.store, log, plugin.Docker(), cni.Usual()
		nc.Gate = gate.Options{Root: c.ExecRoot, Binary: beside("", "lade-gate"), Build: b.Version, Logger: log}
		p.networks, err = network.New(ctx, nc)
		return err
	})
	blobs, err := content.Open(filepath.Join(c.DataRoot, "content"), log)
	if err != nil {
		return p, err
	}
	if err := snapshotter.wait(); err != nil {
		return p, err
	}
	images, err := image.New(image.Config{Store: p.store, Content: blobs, Snapshotter: p.snapshots.Snapshotter, MaxLayer: int64(c.MaxLayer), Logger: log})
	if err != nil {
		return p, err
	}
	p.registries = registry.Config{Images: images, Logger: log, CertDirs: certDirs(), UserAgent: "lade/" + b.Version}
	if p.registry, err = registry.NewLive(p.registryConfig(c)); err != nil {
		return p, err
	}
	if p.volumes, err = volume.New(filepath.Join(c.DataRoot, "volumes"), p.store, log); err != nil {
		return p, err
	}
	p.volumes.UsePlugins(plugin.Docker())
	cgroups, err := cgroup.Detect()
	if err != nil {
		return p, err
	}
	facts, err := spec.Detect(cgroups)
	if err != nil {
		return p, err
	}
	if c.systemdGroups() {
		if !systemd.Running() {
			return p, errdefs.Invalidf("native.cgroupdriver=systemd: systemd is not running on this host")
		}
		p.systemd = systemd.New(cgroups, beside(c.InitPath, "lade-init"), "--hold")
		facts.Systemd = true
	}
	if err := networks.wait(); err != nil {
		return p, err
	}
	if p.security, err = securityDefaults(ctx, c, log); err != nil {
		return p, err
	}
	facts.Labels = p.security.SELinux != nil
	p.engine, err = engine.New(ctx, engine.Config{
		Root: c.DataRoot, ExecRoot: c.ExecRoot, Logger: log, Build: b, Store: p.store, Content: blobs, Images: images,
		Registry: p.registry, Builtin: builtin.New(images), Snapshots: p.snapshots.Snapshotter, WhyStorage: p.snapshots.why, Networks: p.networks, Volumes: p.volumes, Cgroups: cgroups, Systemd: p.systemd, Kernel: sys.Probe(), Facts: facts,
		Settings: p.settings(c), Experimental: c.Experimental,
		Builder:  builder.Programs{Build: beside("", "lade-build"), Runtime: beside("", "lade-runtime")},
		LogRelay: p.relay.need,
		Connect:  newConnector(so, &early, b.Version).connect,
	})
	return p, err
}

// step is a part of the start that is made beside others.
type step struct {
	done chan struct{} // nil: not begun
	err  error
}

func (s *step) begin(f func() error) {
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		s.err = f()
	}()
}

// wait waits for the end and returns the error; nil for a step that was not
// begun.
func (s *step) wait() error {
	if s.done == nil {
		return nil
	}
	<-s.done
	return s.err
}

// close takes the parts down, the last made first. Containers go on. When none
// runs, the bridge and the table go too: the next start makes them again.
func (p *parts) close(log *slog.Logger) error {
	var errs []error
	busy := true
	if p.engine != nil {
		busy = p.engine.Running() > 0
		errs = append(errs, p.engine.Close())
	}
	if p.relay != nil {
		p.relay.close()
	}
	if p.networks != nil {
		if busy {
			errs = append(errs, p.networks.Close())
		} else {
			ctx := context.Background() // the one that ended us does not end this
			errs = append(errs, p.networks.Destroy(ctx))
		}
	}
	if p.systemd != nil {
		p.systemd.Close()
	}
	if p.registry != nil {
		p.registry.Client().Close()
	}
	if p.volumes != nil {
		p.volumes.Close()
	}
	if p.snapshots != nil {
		errs = append(errs, p.snapshots.Close())
	}
	if p.store != nil {
		errs = append(errs, p.store.Close())
	}
	log.Debug("closed")
	return errors.Join(errs...)
}

// networkConfig reads the addresses of the default bridge.
func networkConfig(c *Config) (network.Config, error) {
	n := network.Config{Bridge: c.Bridge.Bridge, MTU: c.MTU, ICC: c.ICC, IPMasq: c.IPMasq, IPForward: c.IPForward, Limits: c.Limits, PublishPolicy: c.PublishPolicy}
	if n.Bridge == "" {
		n.Bridge = "docker0"
	}
	n.Disabled = n.Bridge == "none"
	var err error
	prefix := func(s string) (p netip.Prefix) {
		if s != "" && err == nil {
			p, err = netip.ParsePrefix(s)
		}
		return p
	}
	addr := func(s string) (a netip.Addr) {
		if s != "" && err == nil {
			a, err = netip.ParseAddr(s)
		}
		return a
	}
	n.BIP, n.FixedCIDR, n.Gateway, n.DefaultBind = prefix(c.BIP), prefix(c.FixedCIDR), addr(c.DefaultGateway), addr(c.HostIP)
	n.Direct = c.DirectRouting
	if n.Accept, err = network.ParseMark(c.AcceptMark); err != nil {
		return n, err
	}
	n.IPv6, n.NoRules4, n.NoRules6, n.NoProxy = c.Bridge.IPv6, !c.IPTables, !c.IP6Tables, !c.UserlandProxy
	n.BIP6, n.FixedCIDR6, n.Gateway6 = prefix(c.BIP6), prefix(c.FixedCIDR6), addr(c.DefaultGateway6)
	if err != nil {
		return n, errdefs.Invalidf("default bridge: %w", err)
	}
	for _, p := range c.AddressPools {
		base, err := netip.ParsePrefix(p.Base)
		if err != nil {
			return n, errdefs.Invalidf("default address pool: %w", err)
		}
		n.Pools = append(n.Pools, ipam.Pool{Base: base, Size: p.Size})
	}
	return n, nil
}

// beside returns path, or the program of that name in the daemon's directory.
func beside(path, name string) string {
	if path != "" {
		return path
	}
	self, err := os.Executable()
	if err != nil {
		return name
	}
	return filepath.Join(filepath.Dir(self), name)
}
