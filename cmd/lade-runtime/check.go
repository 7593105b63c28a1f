package main

import (
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/linux/caps"
)

// checkProcess refuses a process that lacks what the specification requires, and
// tells in the log which of its capabilities it will not have: config.md,
// "Process".
func (a *app) checkProcess(p *specs.Process) error {
	if p == nil {
		return nil
	}
	if p.Cwd == "" {
		return errdefs.Invalidf("Cwd property must not be empty")
	}
	for _, e := range p.Env {
		switch name, _, ok := strings.Cut(e, "="); {
		case !ok:
			return errdefs.Invalidf("invalid environment variable %q: missing '='", e)
		case name == "":
			return errdefs.Invalidf("invalid environment variable %q: name cannot be empty", e)
		}
	}
	return a.checkCapabilities(p.Capabilities)
}

// checkCapabilities warns of capabilities that are not known, or not the caller's
// to give.
func (a *app) checkCapabilities(c *specs.LinuxCapabilities) error {
	if c == nil {
		return nil
	}
	var asked caps.Set
	var not []string
	for _, list := range [][]string{c.Bounding, c.Effective, c.Permitted, c.Inheritable, c.Ambient} {
		s, unknown := caps.Parse(list)
		asked, not = asked|s, append(not, unknown...)
	}
	have, err := caps.Permitted()
	if err != nil {
		return err
	}
	if not = append(not, (asked &^ have).Names()...); len(not) > 0 {
		a.log.Warn("ignoring unknown or unavailable capabilities", "capabilities", strings.Join(unique(not), " "))
	}
	return nil
}

// unique drops what is there already.
func unique(list []string) (out []string) {
	seen := map[string]bool{}
	for _, s := range list {
		if !seen[s] {
			seen[s], out = true, append(out, s)
		}
	}
	return out
}

// checkAnnotations: config.md, "Annotations".
func checkAnnotations(m map[string]string) error {
	if _, ok := m[""]; ok {
		return errdefs.Invalidf("the key of an annotation must not be empty")
	}
	return nil
}

// checkMounts: config.md, "Mounts".
func checkMounts(list []specs.Mount) error {
	for _, m := range list {
		if (len(m.UIDMappings) == 0) != (len(m.GIDMappings) == 0) {
			return errdefs.Invalidf("mount %q: uidMappings and gidMappings must be given together", m.Destination)
		}
	}
	return nil
}
