package daemon

import "lade/internal/engine"

// binary is the runtime's program: its path, or the one that containerd's shim
// for runc is told to call. Another shim has none.
func (r Runtime) binary() string {
	if r.Path != "" {
		return r.Path
	}
	if name, ok := r.Options["BinaryName"].(string); ok && r.Type == "io.containerd.runc.v2" {
		return name
	}
	return ""
}

// runtimesOf is what the engine is told of other runtimes.
func runtimesOf(c *Containers) engine.Runtimes {
	all := engine.Runtimes{Configured: map[string]engine.Runtime{}, Default: c.DefaultRuntime}
	for name, r := range c.Runtimes {
		all.Configured[name] = engine.Runtime{Path: r.binary(), Args: r.Args}
	}
	return all
}
