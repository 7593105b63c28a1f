package engine

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	apicontainer "github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/engine/container"
	"lade/internal/engine/spec"
	"lade/internal/errdefs"
)

// checkModes refuses what contradicts the namespaces that a container shares,
// in Docker's words. Errors: Invalid.
func checkModes(c *apicontainer.Config, hc *apicontainer.HostConfig) error {
	if string(hc.NetworkMode) == "container:" {
		return errdefs.Invalidf("Invalid network mode: invalid container format container:<name|id>")
	}
	if hc.NetworkMode.IsContainer() {
		return checkJoinedNetwork(c, hc)
	}
	switch {
	case hc.UTSMode.IsHost() && c.Hostname != "":
		return errdefs.Invalidf("conflicting options: hostname and the UTS mode")
	case hc.NetworkMode.IsHost() && len(hc.Links) > 0:
		return errdefs.Invalidf("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
	}
	return nil
}

// checkJoinedNetwork refuses what is the network's owner's to say.
func checkJoinedNetwork(c *apicontainer.Config, hc *apicontainer.HostConfig) error {
	switch {
	case c.Hostname != "":
		return errdefs.Invalidf("conflicting options: hostname and the network mode")
	case len(hc.Links) > 0:
		return errdefs.Invalidf("conflicting options: container type network can't be used with links. This would result in undefined behavior")
	case len(hc.DNS) > 0:
		return errdefs.Invalidf("conflicting options: dns and the network mode")
	case len(hc.ExtraHosts) > 0:
		return errdefs.Invalidf("conflicting options: custom host-to-IP mapping and the network mode")
	case len(hc.PortBindings) > 0 || hc.PublishAllPorts:
		return errdefs.Invalidf("conflicting options: port publishing and the container type network mode")
	case len(c.ExposedPorts) > 0:
		return errdefs.Invalidf("conflicting options: port exposing and the container type network mode")
	}
	return nil
}

// defaultModes fills in the namespace modes that a request leaves open.
func (e *host) defaultModes(hc *apicontainer.HostConfig) {
	d := e.settings().Defaults
	if hc.IpcMode == "" {
		hc.IpcMode = cmp.Or(apicontainer.IpcMode(d.IPCMode), apicontainer.IPCModePrivate)
	}
	if hc.CgroupnsMode != "" {
		return
	}
	switch {
	case d.CgroupnsMode != "":
		hc.CgroupnsMode = apicontainer.CgroupnsMode(d.CgroupnsMode)
	case hc.Privileged && e.Facts.CgroupVersion == 1:
		hc.CgroupnsMode = apicontainer.CgroupnsModeHost
	default:
		hc.CgroupnsMode = apicontainer.CgroupnsModePrivate
	}
}

// owner returns the container whose network r has, through others that have it
// too: r itself if it has one of its own. Errors: NotFound if one of them is
// gone.
func (e *host) owner(r *container.Record) (*container.Record, error) {
	seen := map[string]bool{}
	for r.HostConfig.NetworkMode.IsContainer() {
		if seen[r.ID] { // a name that was given again
			return nil, errdefs.NotFoundf("No such container: %s", r.HostConfig.NetworkMode.ConnectedContainer())
		}
		seen[r.ID] = true
		a, err := e.containers.find(r.HostConfig.NetworkMode.ConnectedContainer())
		if err != nil {
			return nil, err
		}
		r = a.View()
	}
	return r, nil
}

// named returns r, or, if it is in another container's network, a copy that
// has that one's names: they are what /etc/hosts and /etc/hostname say there.
func (e *host) named(r *container.Record) (*container.Record, error) {
	if !r.HostConfig.NetworkMode.IsContainer() {
		return r, nil
	}
	owner, err := e.owner(r)
	if err != nil {
		return nil, err
	}
	config, out := *r.Config, *r
	config.Hostname, config.Domainname = owner.Config.Hostname, owner.Config.Domainname
	out.Config = &config
	return &out, nil
}

// checkShared refuses to share namespaces with containers that are not there, as
// Docker does when it looks for their labels; that they run is asked for at the
// start. Errors: Invalid.
func (e *host) checkShared(hc *apicontainer.HostConfig) error {
	for _, of := range []struct {
		name   string
		shared bool
	}{
		{hc.PidMode.Container(), hc.PidMode.IsContainer()},
		{hc.IpcMode.Container(), hc.IpcMode.IsContainer()},
	} {
		if !of.shared {
			continue
		}
		if _, err := e.containers.find(of.name); err != nil {
			return errdefs.Invalidf("%w", err)
		}
	}
	return nil
}

// namespaces reads the modes of the namespaces, the network's aside. Errors:
// NotFound and Conflict for a container that cannot be joined, Invalid for one
// that does not share.
func (e *host) namespaces(hc *apicontainer.HostConfig) (ns spec.Namespaces, err error) {
	host := func(yes bool) string {
		if yes {
			return "host"
		}
		return ""
	}
	ns.UTS, ns.Cgroup = host(hc.UTSMode.IsHost()), host(hc.CgroupnsMode.IsHost())
	if ns.PID = host(hc.PidMode.IsHost()); hc.PidMode.IsContainer() {
		r, err := e.running(hc.PidMode.Container())
		if err != nil {
			return ns, joinError("failed to join PID namespace", err)
		}
		ns.PID = namespacePath(r, "pid")
	}
	if ns.IPC = host(hc.IpcMode.IsHost()); hc.IpcMode.IsContainer() {
		r, err := e.sharesIPC(hc.IpcMode.Container())
		if err != nil {
			return ns, joinError("failed to join IPC namespace", err)
		}
		ns.IPC = namespacePath(r, "ipc")
	}
	return ns, nil
}

// joinError puts what was tried in front of an error and keeps its kind.
func joinError(what string, err error) error {
	return &errdefs.Error{Kind: errdefs.KindOf(err), Msg: what + ": " + err.Error(), Err: err}
}

// running finds a container that has a process to share namespaces with.
// Errors: NotFound, Conflict.
func (e *host) running(name string) (*container.Record, error) {
	a, err := e.containers.find(name)
	if err != nil {
		return nil, err
	}
	r := a.View()
	switch {
	case r.State == container.Restarting:
		return nil, restarting(r.ID)
	case !r.State.Alive() || r.Pid == 0:
		return nil, errdefs.Conflictf("container %s is not running", r.ID)
	}
	return r, nil
}

func restarting(id string) error {
	return errdefs.Conflictf("Container %s is restarting, wait until the container is running", id)
}

// sharesIPC finds a running container that lets others join its IPC namespace:
// one that has a /dev/shm and was not told to keep it to itself.
func (e *host) sharesIPC(name string) (*container.Record, error) {
	r, err := e.running(name)
	if err != nil {
		return nil, err
	}
	if mode := r.HostConfig.IpcMode; mode.IsPrivate() || mode.IsNone() {
		return nil, errdefs.Invalidf("container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container)", r.ID)
	}
	return r, nil
}

// namespacePath is where a running container's namespace can be opened.
func namespacePath(r *container.Record, kind string) string {
	return filepath.Join("/proc", strconv.Itoa(r.Pid), "ns", kind)
}

// sharedMemory returns the /dev/shm that belongs to an IPC namespace by path:
// that of the process, as it sees it itself. POSIX shared memory is files there
// (shm_overview(7)).
func sharedMemory(ipc string) string {
	process := filepath.Dir(filepath.Dir(ipc))
	return filepath.Join(process, "root/dev/shm")
}

// networkOwner finds the running container whose network another one has.
func (e *host) networkOwner(r *container.Record) (*container.Record, error) {
	a, err := e.containers.find(r.HostConfig.NetworkMode.ConnectedContainer())
	if err != nil {
		return nil, joinError("joining network namespace of container", err)
	}
	other := a.View()
	switch {
	case other.ID == r.ID:
		return nil, errdefs.Invalidf("cannot join own network namespace")
	case other.State == container.Restarting:
		return nil, joinError("cannot join network namespace of container", restarting(other.ID))
	case !other.State.Alive() || other.Pid == 0:
		return nil, notRunning(other)
	}
	return other, nil
}

func notRunning(r *container.Record) error {
	return errdefs.Conflictf("cannot join network namespace of a non running container: container %s is %s", strings.TrimPrefix(r.Name, "/"), r.API())
}

// lostNamespace explains a start that failed because a container whose namespace
// was to be joined has ended meanwhile. Errors: Conflict; nil where all are there.
func lostNamespace(s *specs.Spec) error {
	for _, n := range s.Linux.Namespaces {
		if n.Path == "" {
			continue
		}
		if _, err := os.Stat(n.Path); errors.Is(err, fs.ErrNotExist) {
			return errdefs.Conflictf("cannot join %s namespace of a non running container", n.Type)
		}
	}
	return nil
}

// joinNetwork returns the path of the network namespace that a container
// shares with a running one, and keeps it from being used again for others.
func (e *host) joinNetwork(r *container.Record) (string, error) {
	other, err := e.networkOwner(r)
	if err != nil {
		return "", err
	}
	path := namespacePath(other, "net")
	if other.HostConfig.NetworkMode.IsContainer() {
		return path, nil // its owner's is shared already
	}
	if err := e.Networks.Share(other.ID); err != nil { // it has just ended
		return "", notRunning(other)
	}
	return path, nil
}
