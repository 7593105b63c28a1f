//go:build wip

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"lade/internal/builtin"
	"lade/internal/content"
	"lade/internal/engine"
	"lade/internal/engine/spec"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/linux/caps"
	"lade/internal/linux/cgroup"
	"lade/internal/network"
	"lade/internal/registry"
	"lade/internal/server"
	"lade/internal/snapshot"
	"lade/internal/snapshot/overlay2"
	"lade/internal/snapshot/vfs"
	"lade/internal/store"
	"lade/internal/supervisor"
	"lade/internal/supervisor/wire"
	"lade/internal/trace"
	"lade/internal/volume"
)

// memoryTarget keeps the garbage collector from letting an idle daemon grow.
const memoryTarget = 50 // GOGC

// Main runs the daemon until a signal ends it, and returns the exit code.
func Main(ctx context.Context, b engine.Build, args []string, stdout, stderr io.Writer) int {
	c, err := Load(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		Usage(stdout)
		return 0
	case err != nil:
		fmt.Fprintln(stderr, err)
		return 1
	case c.ShowVersion:
		fmt.Fprintf(stdout, "lade daemon version %s, build %s\n", b.Version, b.Commit)
		return 0
	case c.Validate:
		fmt.Fprintln(stdout, "configuration OK")
		return 0
	}
	debug.SetGCPercent(memoryTarget)
	trace.Enable(c.Trace)
	log, _ := NewLogger(c, stderr)
	if err := run(ctx, c, b, log); err != nil {
		log.Error("laded ends", "error", err)
		return 1
	}
	return 0
}

// run constructs, recovers, serves, and takes down in the other order.
func run(ctx context.Context, c *Config, b engine.Build, log *slog.Logger) (err error) {
	if os.Getuid() != 0 {
		return errdefs.Forbiddenf("laded needs to be started with root privileges")
	}
	for _, name := range c.Without {
		log.Warn("this option has no effect", "option", name)
	}
	if err := errors.Join(os.MkdirAll(c.DataRoot, 0o710), os.MkdirAll(c.ExecRoot, 0o711)); err != nil {
		return err
	}
	pidfile := c.PIDFile
	if pidfile == "" {
		pidfile = filepath.Join(c.ExecRoot, "laded.pid")
	}
	removePID, err := WritePIDFile(pidfile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removePID()) }()
	ctx, stop := signals(ctx, log, func() { log.Info("nothing is reloaded yet: restart laded, containers go on") })
	defer stop()

	p, err := open(ctx, c, b, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close(log)) }()
	listeners, err := Listen(c, log)
	if err != nil {
		return err
	}
	p.engine.Resume()
	if err := notify("READY=1"); err != nil {
		log.Warn("the service manager was not told", "error", err)
	}
	handler := server.New(p.engine, server.Options{Version: b.Version, Logger: log})
	return serve(ctx, handler, listeners, serveOptions{Logger: log, Shutdown: c.ShutdownTimeout})
}

// parts is what the engine is made of, in the order of making.
type parts struct {
	store     *store.Store
	snapshots snapshot.Snapshotter
	networks  *network.Networks
	volumes   *volume.Volumes
	engine    *engine.Engine
}

// open makes the parts and brings the engine up. On error everything is
// closed again.
func open(ctx context.Context, c *Config, b engine.Build, log *slog.Logger) (p *parts, err error) {
	p = &parts{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close(log))
		}
	}()
	if p.store, err = store.Open(filepath.Join(c.DataRoot, "records"), log); err != nil {
		return p, err
	}
	blobs, err := content.Open(filepath.Join(c.DataRoot, "content"), log)
	if err != nil {
		return p, err
	}
	if p.snapshots, err = snapshots(c, log); err != nil {
		return p, err
	}
	images, err := image.New(image.Config{Store: p.store, Content: blobs, Snapshotter: p.snapshots, Logger: log})
	if err != nil {
		return p, err
	}
	if p.volumes, err = volume.New(filepath.Join(c.DataRoot, "volumes"), p.store, log); err != nil {
		return p, err
	}
	nc, err := networkConfig(c)
	if err != nil {
		return p, err
	}
	nc.Store, nc.Logger = p.store, log
	if p.networks, err = network.New(ctx, nc); err != nil {
		return p, err
	}
	cgroups, err := cgroup.Detect()
	if err != nil {
		return p, err
	}
	facts, err := facts(cgroups)
	if err != nil {
		return p, err
	}
	p.engine, err = engine.New(ctx, engine.Config{
		Root: c.DataRoot, Logger: log, Build: b, Store: p.store, Content: blobs, Images: images,
		Registry: registry.New(registry.Config{
			Images: images, Logger: log, Mirrors: c.Mirrors, Insecure: c.Insecure, MaxDownloads: c.MaxDownloads, Attempts: c.MaxDownloadAttempts,
		}),
		Builtin:   builtin.New(images),
		Snapshots: p.snapshots, Networks: p.networks, Volumes: p.volumes, Cgroups: cgroups, Facts: facts, Labels: c.Labels,
		Defaults: engine.Defaults{
			LogDriver: c.LogDriver, LogOptions: c.LogOptions, CgroupParent: c.CgroupParent, ShmSize: int64(c.ShmSize), Init: c.Init,
			StopTimeout: c.StopTimeout, Ulimits: c.Ulimits, DNS: c.DNS, DNSSearch: c.DNSSearch, DNSOptions: c.DNSOptions,
		},
		Connect: func(ctx context.Context, h supervisor.Handler) (*supervisor.Client, wire.Welcome, error) {
			return supervisor.Connect(ctx, supervisor.Options{
				Root: c.ExecRoot, Binary: beside(c.Supervisor, "lade-supervisor"),
				Args: []string{"--init", beside(c.InitPath, "lade-init")}, Logger: log, Handler: h,
			})
		},
	})
	return p, err
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
	if p.networks != nil {
		if busy {
			errs = append(errs, p.networks.Close())
		} else {
			ctx := context.Background() // the one that ended us does not end this
			errs = append(errs, p.networks.Destroy(ctx))
		}
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

// snapshots opens the storage driver that was asked for, or the best one.
func snapshots(c *Config, log *slog.Logger) (snapshot.Snapshotter, error) {
	name, why := c.StorageDriver, "chosen"
	if name == "" {
		name, why = snapshot.Default(c.DataRoot)
	}
	root := filepath.Join(c.DataRoot, name)
	log.Debug("storage driver", "name", name, "why", why)
	switch name {
	case "overlay2", "overlayfs", "overlay":
		return overlay2.New(filepath.Join(c.DataRoot, "overlay2"), log)
	case "vfs":
		return vfs.New(root, log)
	case "btrfs", "zfs", "devicemapper", "aufs":
		return nil, errdefs.NotImplementedf("storage driver %q is not implemented yet", name)
	}
	return nil, errdefs.Invalidf("unknown storage driver %q", name)
}

// networkConfig reads the addresses of the default bridge.
func networkConfig(c *Config) (network.Config, error) {
	n := network.Config{Bridge: c.Bridge.Bridge, MTU: c.MTU, ICC: c.ICC, IPMasq: c.IPMasq, IPForward: c.IPForward}
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
	if err != nil {
		return n, errdefs.Invalidf("default bridge: %w", err)
	}
	return n, nil
}

// facts looks at the machine.
func facts(h *cgroup.Host) (spec.Facts, error) {
	f := spec.Facts{CgroupVersion: 1, CPUs: runtime.NumCPU(), Seccomp: true, Controllers: map[string]bool{}}
	if h.Version() == cgroup.V2 {
		f.CgroupVersion = 2
	}
	for _, name := range h.Controllers() {
		f.Controllers[name] = true
	}
	f.Swap = h.Features().Swap
	set, err := caps.Permitted()
	if err != nil {
		return f, err
	}
	f.Capabilities = set.Names()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return f, err
	}
	f.Kernel = unix.ByteSliceToString(u.Release[:])
	_, err = os.Stat("/sys/kernel/security/apparmor")
	f.AppArmor = err == nil
	_, err = os.Stat("/sys/fs/selinux/enforce")
	f.SELinux = err == nil
	return f, nil
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
