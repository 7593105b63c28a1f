package engine

import (
	"os/exec"

	"github.com/moby/moby/api/types/system"

	"lade/internal/cdi"
	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/supervisor/wire"
)

// DefaultRuntime is the name of lade's own runtime in HostConfig.Runtime.
const DefaultRuntime = "lade"

// Kinds of other runtimes, as in wire.Runtime.
const (
	kindOCI = "oci"
	kindLXC = "lxc"
)

// Runtime is an OCI runtime that the administrator has configured.
type Runtime struct {
	Path string // of the program; without a slash it is looked for in PATH
	Args []string
}

// Runtimes are those that a container may ask for besides lade's own.
type Runtimes struct {
	Configured map[string]Runtime
	Default    string // of containers that do not ask; "": lade's own
}

// programs are the runtimes that need no configuration where their program is
// in PATH: Debian's packages runc, crun, runsc and lxc.
var programs = map[string]wire.Runtime{
	"runc":     {Kind: kindOCI, Path: "runc"},
	"crun":     {Kind: kindOCI, Path: "crun"},
	"runsc":    {Kind: kindOCI, Path: "runsc"},
	lxcRuntime: {Kind: kindLXC, Path: "lxc-start"},
}

// ReservedRuntime reports whether a name cannot be configured.
func ReservedRuntime(name string) bool {
	return name == DefaultRuntime || name == containerdRuntime || name == lxcRuntime
}

// containerdRuntime is how clients name Docker's own runtime by its shim.
const containerdRuntime = "io.containerd.runc.v2"

// lxcRuntime is LXC's name.
const lxcRuntime = "lxc"

// Find returns what a name stands for: its own or another one's name, and the
// runtime, nil for lade's own. "runc" is lade's own where neither a runc is
// configured nor one is installed, because scripts that were written for Docker
// mean by it the runtime that is there. Errors: Invalid.
func (all *Runtimes) Find(name string) (string, *wire.Runtime, error) {
	if name == "" {
		name = all.Default
	}
	if name == "" || name == DefaultRuntime || name == containerdRuntime {
		return DefaultRuntime, nil, nil
	}
	if r, ok := all.Configured[name]; ok {
		return name, &wire.Runtime{Name: name, Kind: kindOCI, Path: r.Path, Args: r.Args}, nil
	}
	if r, ok := programs[name]; ok {
		path, err := exec.LookPath(r.Path)
		if err == nil {
			return name, &wire.Runtime{Name: name, Kind: r.Kind, Path: path}, nil
		}
		if name == "runc" {
			return DefaultRuntime, nil, nil
		}
	}
	return "", nil, errdefs.Invalidf("unknown or invalid runtime name: %s", name)
}

// describe lists them for info: their names and programs.
func (all *Runtimes) describe() map[string]system.RuntimeWithStatus {
	out := map[string]system.RuntimeWithStatus{DefaultRuntime: {Runtime: system.Runtime{Path: "lade-runtime"}}}
	for name := range programs {
		if found, r, err := all.Find(name); err == nil && found == name {
			out[name] = system.RuntimeWithStatus{Runtime: system.Runtime{Path: r.Path}}
		}
	}
	for name, r := range all.Configured {
		out[name] = system.RuntimeWithStatus{Runtime: system.Runtime{Path: r.Path, Args: r.Args}}
	}
	return out
}

// runtime returns the runtime that a container was made for, nil for lade's
// own. Errors: Invalid if it is not there any more.
func (e *host) runtime(r *container.Record) (*wire.Runtime, error) {
	_, other, err := e.settings().Runtimes.Find(r.HostConfig.Runtime)
	return other, err
}

// ownRuntime is lade's own as an OCI command, for what the supervisor does not do
// itself: hooks.
func (e *host) ownRuntime() *wire.Runtime {
	return &wire.Runtime{Name: DefaultRuntime, Kind: kindOCI, Path: e.Builder.Runtime}
}

// devices reads the devices of the Container Device Interface; nil: it is off.
func (e *host) devices() *cdi.Registry {
	dirs := e.settings().Defaults.CDIDirs
	if dirs == nil {
		return nil
	}
	r := cdi.Read(dirs)
	for _, w := range r.Wrong() {
		e.log.Warn("a file of the Container Device Interface is left out", "error", w)
	}
	return r
}
