package main

import (
	"context"
	"errors"
	"io"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/systemd"
	"lade/internal/runtime"
)

// holdVerb is what the process that holds a scope is told: it waits for the
// end of its standard input.
const holdVerb = "hold-scope"

func holdScope(context.Context, *app, []string) error {
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// scopeOf reads cgroupsPath as --systemd-cgroup has it. Errors: Invalid.
func scopeOf(id, path string) (cgroup.Scope, error) {
	if path == "" {
		return cgroup.Scope{Slice: "system.slice", Prefix: "lade-runtime", Name: id}, nil
	}
	s, ok := cgroup.ParseScope(path)
	if !ok {
		return s, errdefs.Invalidf("expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got %q instead", path)
	}
	_, err := s.Path()
	return s, err
}

// scoped starts a container's process by f, in a group that systemd has made if
// it is to make it.
func (b *birth) scoped(ctx context.Context, f func() (*runtime.Process, error)) (*runtime.Process, error) {
	end, err := b.a.beginScope(ctx, b.c, b.spec)
	if err != nil {
		return nil, err
	}
	p, err := f()
	if err != nil {
		// What it has made it has removed; what has these names is somebody else's.
		b.c.Resctrl = nil
	}
	return p, errors.Join(err, end(err))
}

// beginScope has systemd make the container's group. end is called when the
// create has ended, with its error. Without --systemd-cgroup nothing is made.
func (a *app) beginScope(ctx context.Context, c *container, s *specs.Spec) (end func(error) error, err error) {
	scope, ok := cgroup.ParseScope(c.Scope)
	if !ok {
		return func(error) error { return nil }, nil
	}
	h, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	m := systemd.New(h, "/proc/self/exe", holdVerb)
	held, err := m.Start(ctx, scope, s.Linux.Resources)
	if err != nil {
		m.Close()
		h.Close()
		return nil, err
	}
	return func(err error) error {
		defer h.Close()
		defer m.Close()
		if err == nil {
			held.Release()
			return nil
		}
		ctx, cancel := cleanUp()
		defer cancel()
		return held.Abandon(ctx)
	}, nil
}

// updateScope makes limits the unit's, where the container has one.
func (c *container) updateScope(ctx context.Context, r *specs.LinuxResources) error {
	s, ok := cgroup.ParseScope(c.Scope)
	if !ok {
		return nil
	}
	h, err := cgroup.Detect()
	if err != nil {
		return err
	}
	defer h.Close()
	m := systemd.New(h)
	defer m.Close()
	return m.Update(ctx, s, r)
}
