package main

import (
	"context"
	"os"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/idmap"
	"lade/internal/linux/sys"
	"lade/internal/runtime"
)

// A user without privileges is root of a user namespace that it makes. A verb
// that starts processes executes itself again there, and waits; the rest is as
// for a container in a container. Verbs that only look, signal or remove need
// nothing of this: the processes are the user's.

// insideVariable tells the program that it was executed again.
const insideVariable = "LADE_ROOTLESS"

// mustEnter reports whether the program has to be executed again.
func mustEnter() bool { return unix.Geteuid() != 0 }

// entered reports whether it was.
func entered() bool { return os.Getenv(insideVariable) != "" }

// enter executes the verb again, in a new user namespace with a map (join is
// -1) or in that of process join, a pidfd. It returns how that ends, which has
// said why.
func (a *app) enter(ctx context.Context, ids idmap.Map, join int) (int, error) {
	l, err := runtime.NewLauncher(runtime.Options{Threads: 1, Logger: a.log, Once: true})
	if err != nil {
		return 0, err
	}
	defer l.Close()
	p, err := l.Again(ctx, &runtime.Again{
		IDs: ids, Pidfd: join,
		// What the arguments say of the root comes later, and counts.
		Args: slices.Concat([]string{os.Args[0], "--root", a.root}, os.Args[1:]),
		Env:  append(os.Environ(), insideVariable+"=1"),
	})
	if err != nil {
		return 0, err
	}
	defer sys.CloseAll(p.Pidfd)
	return a.attend(p.Pidfd, -1)
}

// enterFor is enter for a bundle.
func (a *app) enterFor(ctx context.Context, f *createFlags) error {
	_, s, err := readBundle(f.bundle)
	if err != nil {
		return err
	}
	if i := userNamespace(s); i < 0 {
		return errdefs.Invalidf("rootless container requires user namespaces")
	} else if s.Linux.Namespaces[i].Path != "" {
		return errdefs.NotImplementedf("a user without privileges cannot start a container in a user namespace that there is")
	}
	return ended(a.enter(ctx, idmap.Map{UID: s.Linux.UIDMappings, GID: s.Linux.GIDMappings}, -1))
}

// enterOf is enter for a container that runs.
func (a *app) enterOf(ctx context.Context, c *container) (int, error) {
	fd, err := c.pidfd()
	if err != nil {
		return 0, err
	}
	defer sys.CloseAll(fd)
	return a.enter(ctx, idmap.Map{}, fd)
}

func userNamespace(s *specs.Spec) int {
	return slices.IndexFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
}

// insideAlready takes out of a configuration what was done by entering.
func insideAlready(s *specs.Spec) {
	if i := userNamespace(s); i >= 0 {
		s.Linux.Namespaces = slices.Delete(s.Linux.Namespaces, i, i+1)
	}
	s.Linux.UIDMappings, s.Linux.GIDMappings = nil, nil
}

// withoutGroup refuses limits where there can be no control group.
func withoutGroup(r *specs.LinuxResources) error {
	// Not the devices: none can be made there.
	if r != nil && (r.Memory != nil || r.CPU != nil || r.Pids != nil || r.BlockIO != nil || r.Network != nil ||
		len(r.HugepageLimits)+len(r.Rdma)+len(r.Unified) > 0) {
		return errdefs.Invalidf("a user without privileges has no control groups to set limits in: with version 2 and systemd use --systemd-cgroup, or name a group with linux.cgroupsPath that is delegated to the user")
	}
	return nil
}
