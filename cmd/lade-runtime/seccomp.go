package main

import (
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/linux/seccomp"
	"lade/internal/runtime"
)

// filter compiles a bundle's seccomp profile; state is what its listener is
// told of the container.
func filter(s *specs.LinuxSeccomp, state specs.State) (code []byte, flags uint, l *runtime.Listener, err error) {
	if s == nil {
		return nil, 0, nil, nil
	}
	if code, err = seccomp.Compile(s); err != nil {
		return nil, 0, nil, err
	}
	if flags, err = seccomp.Flags(s); err != nil {
		return nil, 0, nil, err
	}
	if seccomp.Notifies(s) {
		l = &runtime.Listener{Path: s.ListenerPath, Metadata: s.ListenerMetadata, State: state}
	}
	return code, flags, l, nil
}

// mayTrace reports whether a process may look at others whatever these are.
func mayTrace(p *specs.Process) bool {
	return p != nil && p.Capabilities != nil && slices.Contains(p.Capabilities.Bounding, "CAP_SYS_PTRACE")
}
