package engine

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/engine/container"
	"lade/internal/engine/spec"
	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/linux/device"
	"lade/internal/network/etc"
	"lade/internal/snapshot"
	"lade/internal/supervisor"
	"lade/internal/supervisor/wire"
)

// Launch implements container.Host: connection, files, specification, process,
// in this order; on error everything is given back.
func (e *host) Launch(ctx context.Context, r *container.Record, attach []container.Stream) (_ container.Launched, err error) {
	defer func() {
		for _, s := range attach {
			s.File.Close()
		}
	}()
	laps := newLaps()
	root, err := e.Snapshots.Root(ctx, r.ID)
	if err != nil {
		return container.Launched{}, err
	}
	user, err := e.launchUser(ctx, r)
	if err != nil {
		return container.Launched{}, err
	}
	defer user.close()
	e.publishMounts(r)
	ns, netns, err := e.connect(ctx, r, user.net)
	if err != nil {
		e.publishUnmounts(r)
		return container.Launched{}, err
	}
	defer func() {
		if netns != nil {
			netns.Close()
		}
		if err != nil {
			e.Release(r)
		}
	}()
	laps.end("connect")
	if r, err = e.named(r); err != nil {
		return container.Launched{}, err
	}
	if r, err = e.withLinks(r); err != nil {
		return container.Launched{}, err
	}
	files, resolver, err := e.writeFiles(r)
	if err != nil {
		return container.Launched{}, err
	}
	laps.end("files")
	p, err := e.planStart(ctx, r, ns, files, user)
	if err != nil {
		return container.Launched{}, err
	}
	if p.other != nil {
		if err := e.makeLaunchUser(ctx, &user); err != nil {
			return container.Launched{}, err
		}
	}
	if netns != nil { // Connect has written those of the network
		maps.DeleteFunc(p.out.Spec.Linux.Sysctl, func(name, _ string) bool { return strings.HasPrefix(name, "net.") })
	}
	laps.end("spec")
	log, err := e.logOf(ctx, r)
	if err != nil {
		return container.Launched{}, err
	}
	w, fds, err := e.startRequest(r, root, p.out.Spec, netns, user.user, attach)
	if err != nil {
		return container.Launched{}, err
	}
	w.Runtime, w.Log, w.Resolver = p.other, log, resolver
	if p.other == nil {
		w.Next = e.nextUser(r)
	}
	if p.in.Edits != nil {
		w.GroupAdd = append(slices.Clone(w.GroupAdd), p.in.Edits.Groups()...)
	}
	scopeEnd, err := e.beginScope(ctx, &p)
	if err != nil {
		return container.Launched{}, err
	}
	w.FilterFlags, w.Listener = p.filter.flags, p.filter.listener
	failpoint.Hit("engine.launch")
	got, err := e.sup.start(ctx, w, p.filter.code, fds...)
	failpoint.Hit("engine.launched")
	if err = scopeEnd(err); err != nil {
		if gone := lostNamespace(p.out.Spec); gone != nil {
			return container.Launched{}, gone
		}
		return container.Launched{}, startError(err, "failed to create task for container: failed to create shim task: OCI runtime create failed: unable to start container process: error during container init: ")
	}
	// gVisor takes the addresses off the link: only our own leave it as it is.
	if netns != nil && p.other == nil && resolver == nil && user.net == nil && spec.Harmless(p.out.Spec, e.ownSources(r, files)) {
		e.Networks.Harmless(r.ID)
	}
	e.linkedAnew(r)
	laps.end("supervisor")
	e.log.LogAttrs(ctx, slog.LevelDebug, "started", append(laps.attrs, slog.String("container", r.ID),
		slog.Duration("prepare", got.Prepare), slog.Duration("program", got.Program))...)
	confined := container.Confinement{Pid: got.Pid, AppArmor: p.out.Spec.Process.ApparmorProfile, Seccomp: seccompName(p.in.Security.Seccomp)}
	return container.Launched{Pid: got.Pid, StartedAt: got.StartedAt.UTC(), Cgroup: p.in.CgroupPath, Confined: confined, Pipes: pipesOf(got)}, nil
}

// plan is what is to be started.
type plan struct {
	in     spec.Input
	out    *spec.Output
	other  *wire.Runtime // that runs it; nil: the supervisor
	filter *filter       // of system calls; another runtime compiles its own, of the specification
}

// planStart describes the start of a container with its namespaces, files and user.
func (e *host) planStart(ctx context.Context, r *container.Record, ns spec.Namespaces, files spec.Files, user launchUser) (p plan, err error) {
	if p.in, err = e.specInput(ctx, r, ns, files); err != nil {
		return p, err
	}
	p.in.User, p.in.UserNS = user.ids, user.path
	if err := e.relabel(r, files); err != nil {
		return p, err
	}
	if p.out, err = spec.Build(p.in); err != nil {
		return p, err
	}
	if p.other, err = e.runtime(r); err != nil {
		return p, err
	}
	if p.other == nil && p.in.Edits != nil && p.in.Edits.NeedsRuntime() {
		p.other = e.ownRuntime()
	}
	if p.other != nil {
		p.out.Spec.Linux.Seccomp, p.filter = p.out.Seccomp, &filter{}
		return p, nil
	}
	p.filter, err = e.filters.compile(p.out.Seccomp)
	return p, err
}

// laps are the times that the steps of a start took, for the debug log.
type laps struct {
	last  time.Time
	attrs []slog.Attr
}

func newLaps() *laps { return &laps{last: time.Now()} }

// end notes that a step has ended.
func (l *laps) end(step string) {
	now := time.Now()
	l.attrs = append(l.attrs, slog.Duration(step, now.Sub(l.last)))
	l.last = now
}

// startRequest is what the supervisor is asked.
func (e *host) startRequest(r *container.Record, root snapshot.Root, s *specs.Spec, netns, user *os.File, attach []container.Stream) (*wire.Start, []*os.File, error) {
	w := &wire.Start{
		ID: r.ID, Spec: s, User: r.Config.User, GroupAdd: r.HostConfig.GroupAdd,
		Init: r.HostConfig.Init != nil && *r.HostConfig.Init, Delegate: spec.Delegates(s),
		OwnParent: r.HostConfig.CgroupParent != "" && r.HostConfig.CgroupParent != e.settings().Defaults.CgroupParent,
		Stdio:     wire.Stdio{Stdin: r.Config.OpenStdin, StdinOnce: r.Config.StdinOnce, Stdout: true, Stderr: true},
		// What a container that removes itself wrote is thrown away with it: no
		// sync is worth its time (overlayfs.rst, "Volatile mount").
		Rootfs: wire.Rootfs{Lower: root.Lower, Upper: root.Upper, Work: root.Work, Path: root.Path, Volatile: r.HostConfig.AutoRemove},
	}
	var fds []*os.File
	add := func(f *os.File) wire.FD {
		fds = append(fds, f)
		return wire.FD(len(fds))
	}
	if netns != nil {
		w.NetNS = add(netns)
	}
	if user != nil {
		w.UserNS = add(user)
	}
	for _, s := range attach {
		w.Attach = append(w.Attach, wireAttach(s, add(s.File)))
	}
	return w, fds, nil
}

// connect gives the container its network, and tells what namespaces it
// shares. netns is nil when it joins one by path or has the host's. own is a
// namespace made for it, or nil.
func (e *host) connect(ctx context.Context, r *container.Record, own *os.File) (ns spec.Namespaces, netns *os.File, err error) {
	hc := r.HostConfig
	if ns, err = e.namespaces(hc); err != nil {
		return ns, nil, err
	}
	mode := hc.NetworkMode
	if mode.IsContainer() {
		ns.Net, err = e.joinNetwork(r)
		return ns, nil, err
	}
	netns, err = e.connectAll(ctx, r, own)
	if err != nil {
		msg := "failed to set up container networking: " + err.Error()
		return ns, nil, &errdefs.Error{Kind: errdefs.KindOf(err), Msg: msg, Err: err}
	}
	if mode.IsHost() {
		ns.Net = "host"
	}
	return ns, netns, nil
}

// ownSources are the sources of a container's binds in which nothing but our
// own files lies: what is bound on /etc, and whole volumes.
func (e *host) ownSources(r *container.Record, f spec.Files) []string {
	own := []string{f.Hosts, f.Hostname, f.Resolv}
	for _, m := range r.Mounts {
		if m.Type == mount.TypeVolume && m.Subpath == "" && m.Source == e.volumes.Path(m.Name) && !e.volumes.External(m.Name) {
			own = append(own, m.Source)
		}
	}
	return own
}

func netSysctls(all map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range all {
		if strings.HasPrefix(k, "net.") || strings.HasPrefix(k, "net/") {
			out[k] = v
		}
	}
	return out
}

// writeFiles writes what is bound on /etc. A container in another's network
// has that one's, and its name server. resolver is what that is to know; nil:
// there is none.
func (e *host) writeFiles(r *container.Record) (_ spec.Files, resolver *wire.Resolver, _ error) {
	dir := e.dir(r.ID)
	f := spec.Files{Hosts: filepath.Join(dir, "hosts"), Hostname: filepath.Join(dir, "hostname"), Resolv: filepath.Join(dir, "resolv.conf")}
	if r.HostConfig.NetworkMode.IsContainer() {
		owner, err := e.owner(r)
		if err != nil {
			return f, nil, err
		}
		other := e.dir(owner.ID)
		return spec.Files{Hosts: filepath.Join(other, "hosts"), Hostname: filepath.Join(other, "hostname"), Resolv: filepath.Join(other, "resolv.conf")}, nil, nil
	}
	hosts, err := e.hostsFile(r)
	if err != nil {
		return f, nil, err
	}
	resolv, resolver := e.resolv(r)
	return f, resolver, errors.Join(
		os.WriteFile(f.Hostname, []byte(r.Config.Hostname+"\n"), 0o644),
		os.WriteFile(f.Hosts, hosts, 0o644),
		os.WriteFile(f.Resolv, resolv, 0o644),
	)
}

// specInput collects what the specification is made of.
func (e *host) specInput(ctx context.Context, r *container.Record, ns spec.Namespaces, files spec.Files) (in spec.Input, err error) {
	in = spec.Input{
		ID: r.ID, Config: r.Config, Host: r.HostConfig, Path: r.Path, Args: r.Args, Files: files, Namespaces: ns,
		Labels: e.labels(r), CgroupPath: e.cgroupPath(r), Facts: e.Facts, Security: e.security(r), Devices: device.Find,
	}
	if r.HostConfig.IpcMode.IsContainer() {
		in.Shm = sharedMemory(ns.IPC)
	}
	for i, m := range r.Mounts {
		sm := spec.Mount{
			Type: "bind", Source: m.Source, Destination: m.Destination, ReadOnly: !m.RW,
			Propagation: string(m.Propagation), Options: m.Options,
		}
		switch m.Type {
		case mount.TypeTmpfs:
			sm.Type = "tmpfs"
		case mount.TypeVolume:
			sm.IDMap = true
			if err := e.volumes.Mount(ctx, m.Name, r.ID); err != nil {
				return in, err
			}
			if m.Subpath != "" {
				if sm.Source, err = e.Stage(ctx, r, i); err != nil {
					return in, err
				}
			}
		case mount.TypeImage: // translated already
			if sm.Source, err = e.Stage(ctx, r, i); err != nil {
				return in, err
			}
		default:
			if err := e.bindSource(r, m); err != nil {
				return in, err
			}
			if err := checkPropagation(m); err != nil {
				return in, err
			}
		}
		in.Mounts = append(in.Mounts, sm)
	}
	if in.Edits, err = spec.Requests(r.HostConfig.DeviceRequests, e.devices); err != nil {
		return in, err
	}
	secrets, err := e.StageSecrets(r)
	in.Mounts = append(in.Mounts, secrets...)
	return in, err
}

// bindSource makes the missing source of a -v bind, as Docker does.
func (e *host) bindSource(r *container.Record, m container.Mount) error {
	if _, err := os.Stat(m.Source); err == nil || !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, asked := range r.HostConfig.Mounts {
		if asked.Target == m.Destination {
			return errdefs.Invalidf("invalid mount config for type \"bind\": bind source path does not exist: %s", m.Source)
		}
	}
	if err := makeSource(m.Source, r.UserNS); err != nil {
		return errdefs.Internalf("error while creating mount source path '%s': %w", m.Source, err)
	}
	return nil
}

// startError turns a failed start into the kind and the words that clients
// know: they read the exit code from the words.
func startError(err error, prefix string) error {
	se, ok := asStartError(err)
	if !ok {
		return err
	}
	kind, msg := errdefs.Internal, err.Error()
	if se.Code == 126 || se.Code == 127 {
		kind, msg = errdefs.Invalid, prefix+msg
	}
	return &container.StartError{Code: codeOr(se.Code, 128), Err: &errdefs.Error{Kind: kind, Msg: msg, Err: err}}
}

func codeOr(code, other int) int {
	if code == 0 {
		return other
	}
	return code
}

// asStartError finds the supervisor's word on a failed start.
func asStartError(err error) (*container.StartError, bool) {
	if se, ok := errors.AsType[*container.StartError](err); ok {
		return se, true
	}
	if se, ok := errors.AsType[*supervisor.StartError](err); ok {
		return &container.StartError{Code: se.Code, Err: se}, true
	}
	return nil, false
}

// Signal implements container.Host.
func (e *host) Signal(ctx context.Context, id string, sig int, all bool) error {
	return e.sup.signal(ctx, &wire.Signal{ID: id, Signal: sig, All: all})
}

// Freeze implements container.Host.
func (e *host) Freeze(ctx context.Context, id string, thaw bool) error {
	return e.sup.freeze(ctx, id, thaw)
}

// Limit implements container.Host.
func (e *host) Limit(ctx context.Context, r *container.Record) error {
	res, err := spec.Resources(r.HostConfig, e.Facts, device.Find)
	if err != nil {
		return err
	}
	res.Devices = nil // not changed by an update
	undo, err := e.limitNetwork(ctx, r)
	if err != nil {
		return err
	}
	takeBack, err := e.republish(ctx, r)
	if err != nil {
		return errors.Join(err, undo(ctx))
	}
	err = e.sup.update(ctx, &wire.Update{ID: r.ID, Resources: res})
	if err == nil {
		err = e.updateScope(ctx, e.cgroupPath(r), res)
	}
	if err != nil {
		return errors.Join(err, takeBack(ctx), undo(ctx))
	}
	return nil
}

// execProcess is the specification of an additional process, and its filter.
func (e *host) execProcess(r *container.Record, q apicontainer.ExecCreateRequest, size *[2]uint) (*specs.Process, *filter, error) {
	x := specExec(q)
	x.ConsoleSize = size
	if named, err := e.named(r); err == nil { // else the owner of its network is gone, and with it the names
		r = named
	}
	if linked, err := e.withLinks(r); err == nil {
		r = linked
	}
	security, err := e.confined(r)
	if err != nil {
		return nil, nil, err
	}
	in := spec.Input{ID: r.ID, Config: r.Config, Host: r.HostConfig, Path: r.Path, Args: r.Args, Labels: e.labels(r), Facts: e.Facts, Security: security, Devices: device.Find}
	p, profile, err := spec.Exec(in, x)
	if err != nil {
		return nil, nil, err
	}
	p.ApparmorProfile = e.appArmor(r)
	filter, err := e.filters.compile(profile)
	return p, filter, err
}

// hostsFile returns the contents of /etc/hosts.
func (e *host) hostsFile(r *container.Record) (hosts []byte, err error) {
	hc := r.HostConfig
	extra := make([]string, 0, len(hc.ExtraHosts))
	for _, h := range hc.ExtraHosts {
		name, addr, ok := etc.SplitHost(h)
		if !ok {
			return nil, errdefs.Invalidf("bad format for add-host: %q", h)
		}
		if addr != "host-gateway" {
			extra = append(extra, name+":"+addr)
			continue
		}
		gateways := e.settings().Defaults.HostGateway
		if len(gateways) == 0 {
			gateways = e.Networks.HostGateway()
		}
		if len(gateways) == 0 {
			return nil, errdefs.Invalidf("unable to derive the IP value for host-gateway")
		}
		for _, gw := range gateways {
			extra = append(extra, name+":"+gw.String())
		}
	}
	all, err := e.links(r)
	if err != nil {
		return nil, err
	}
	for _, l := range all {
		extra = append(extra, l.lines()...)
	}
	if hc.NetworkMode.IsHost() && len(extra) == 0 {
		if hosts, err = os.ReadFile("/etc/hosts"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	} else {
		hosts = etc.Hosts(r.Config.Hostname, r.Config.Domainname, e.addresses(r.ID), extra)
	}
	return hosts, nil
}

// addresses returns those of a container in all its networks.
func (e *host) addresses(id string) (ips []netip.Addr) {
	for _, ep := range e.Networks.Endpoints(id) {
		for _, p := range []netip.Prefix{ep.IPv4, ep.IPv6} {
			if p.IsValid() {
				ips = append(ips, p.Addr())
			}
		}
	}
	return ips
}

func orList(own, def []string) []string {
	if len(own) > 0 {
		return own
	}
	return def
}

func addrs(own []netip.Addr, def []string) []string {
	if len(own) == 0 {
		return def
	}
	out := make([]string, len(own))
	for i, a := range own {
		out[i] = a.String()
	}
	return out
}
