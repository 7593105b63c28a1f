package main

import (
	"slices"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/linux/seccomp"
	"lade/internal/runtime"
)

// filter compiles a seccomp profile for an exec; state is what its listener is
// told of the container.
func filter(s *specs.LinuxSeccomp, state specs.State) (code []byte, flags uint, l *runtime.Listener, err error) {
	if s == nil {
		return nil, 0, nil, nil
	}
	if flags, err = seccomp.Flags(s); err != nil {
		return nil, 0, nil, err
	}
	code, err = seccomp.Compile(s)
	return code, flags, listener(s, state), err
}

// filterLate prepares a container's seccomp filter: the function that it returns
// compiles the profile, for the start, which does it itself if it is there first.
// nil means that there is no profile.
func filterLate(r *runtime.Container, state specs.State) (compile func(), err error) {
	s := r.Spec.Linux.Seccomp
	if s == nil {
		return nil, nil
	}
	if r.FilterFlags, err = seccomp.Flags(s); err != nil {
		return nil, err
	}
	r.Listener = listener(s, state)
	once := sync.OnceValues(func() ([]byte, error) { return seccomp.Compile(s) })
	r.Late = func(r *runtime.Container) (err error) {
		r.Filter, err = once()
		return err
	}
	return func() { _, _ = once() }, nil // Late has the error
}

func listener(s *specs.LinuxSeccomp, state specs.State) *runtime.Listener {
	if !seccomp.Notifies(s) {
		return nil
	}
	return &runtime.Listener{Path: s.ListenerPath, Metadata: s.ListenerMetadata, State: state}
}

// mayTrace reports whether a process may look at others whatever these are.
func mayTrace(p *specs.Process) bool {
	return p != nil && p.Capabilities != nil && slices.Contains(p.Capabilities.Bounding, "CAP_SYS_PTRACE")
}
