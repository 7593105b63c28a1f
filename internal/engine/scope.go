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
// group is to be one. end is called when the start has ended, with its error.
func (e *host) beginScope(ctx context.Context, path string, r *specs.LinuxResources) (end func(error) error, err error) {
	s, ok := cgroup.ParseScope(path)
	if !ok || e.Systemd == nil {
		return func(err error) error { return err }, nil
	}
	held, err := e.Systemd.Start(ctx, s, r)
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
