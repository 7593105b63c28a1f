package main

import (
	"sync"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/sys"
	"lade/internal/runtime"
	"lade/internal/runtime/bundle"
	"lade/internal/runtime/external"
	"lade/internal/runtime/lxc"
	"lade/internal/supervisor/server"
	"lade/internal/supervisor/wire"
)

// foreign makes, or finds again, the containers of other runtimes.
func foreign(root, initPath string, groups *cgroup.Host, own *runtime.Launcher) func(id string, r *wire.Runtime) (server.Foreign, error) {
	features := sync.OnceValue(sys.Probe) // not before somebody asks
	return func(id string, r *wire.Runtime) (server.Foreign, error) {
		var b *bundle.Bundle
		var err error
		if r != nil {
			b, err = bundle.Create(root, id, bundle.Runtime(*r))
		} else {
			b, err = bundle.Open(root, id)
		}
		if err != nil {
			return nil, err
		}
		switch b.Runtime.Kind {
		case "oci":
			return external.New(&external.Host{InitPath: initPath, Features: features(), Mapped: own.Mapped, Cgroup: groups.Open}, b), nil
		case "lxc":
			return lxc.New(&lxc.Host{InitPath: initPath, Features: features(), Cgroups: groups, Mapped: own.Mapped, Exec: own.Exec}, b), nil
		}
		return nil, errdefs.NotImplementedf("runtime %s is of the unknown kind %q", b.Runtime.Name, b.Runtime.Kind)
	}
}
