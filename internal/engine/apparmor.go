package engine

import (
	"lade/internal/engine/container"
	"lade/internal/engine/spec"
)

// appArmor names the AppArmor profile of a container: of one that runs, what it was
// started with, whatever the daemon's default has become since; else, what the next
// start gives it.
func (e *host) appArmor(r *container.Record) string {
	if r.State.Alive() && r.AppArmor != "" {
		return r.AppArmor
	}
	return spec.AppArmorProfile(r.HostConfig, e.Facts, e.settings().Defaults.Security)
}
