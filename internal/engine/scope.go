package engine

import (
	"context"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/engine/container"
	"lade/internal/linux/cgroup"
)

// unitPrefix begins the names of the containers' units: lade-<id>.scope.
const unitPrefix = "lade"

// cgroupPath is where a container's control group is: of one that runs, what it
// was started with; else, where the next start puts it. With systemd it is a
// cgroup.Scope in its notation.
func (e *host) cgroupPath(r *container.Record) string {
	if r.State.Alive() && r.Cgroup != "" {
		return r.Cgroup
	}
	parent := r.HostConfig.CgroupParent
	if parent == "" {
		parent = e.settings().Defaults.CgroupParent
	}
	if e.Facts.Systemd {
		return cgroup.Scope{Slice: parent, Prefix: unitPrefix, Name: r.ID}.String()
	}
	if parent == "" {
		parent = "lade"
	}
	return filepath.Join("/", parent, r.ID)
}

// cgroupDriver names who makes the control groups, in Docker's words.
func (e *host) cgroupDriver() string {
	if e.Facts.Systemd {
		return "systemd"
	}
	return "cgroupfs"
}

// beginScope makes the unit of a container that is about to start, where its
// group is to be one and its runtime does not make it: OCI runtimes do, and refuse a
// group in which there is a process that holds it. end is called when the start has
// ended, with its error.
func (e *host) beginScope(ctx context.Context, p *plan) (end func(error) error, err error) {
	s, ok := cgroup.ParseScope(p.in.CgroupPath)
	if !ok || e.Systemd == nil {
		return func(err error) error { return err }, nil
	}
	limits := p.out.Spec.Linux.Resources
	if p.other != nil && p.other.Kind == kindOCI {
		return func(err error) error {
			if err != nil {
				return err
			}
			// Not every runtime tells systemd all of them (crun 1.8): the next reload
			// would take them away.
			if err := e.Systemd.Update(ctx, s, limits); err != nil {
				e.log.Warn("limits are not the unit's", "unit", s.Unit(), "error", err)
			}
			return nil
		}, nil
	}
	held, err := e.Systemd.Start(ctx, s, limits)
	if err != nil {
		return nil, err
	}
	return func(err error) error {
		if err == nil {
			held.Release()
			return nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
		defer cancel()
		if err := held.Abandon(ctx); err != nil {
			e.log.Warn("the unit of a container that did not start stays behind", "unit", s.Unit(), "error", err)
		} else {
			e.sup.forget(ctx, s.Name, "") // it has noted the group
		}
		return err
	}, nil
}

// updateScope makes the limits of a running container its unit's.
func (e *host) updateScope(ctx context.Context, path string, r *specs.LinuxResources) error {
	s, ok := cgroup.ParseScope(path)
	if !ok || e.Systemd == nil {
		return nil
	}
	return e.Systemd.Update(ctx, s, r)
}
