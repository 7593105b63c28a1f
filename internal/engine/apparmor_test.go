package engine

import (
	"testing"

	apicontainer "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container"
	"lade/internal/engine/spec"
)

// TestAppArmor: a container that runs keeps the profile that it was started with;
// test/escape TestAppArmorProfile has the kernel do so.
func TestAppArmor(t *testing.T) {
	e := &host{Config: Config{Facts: spec.Facts{AppArmor: true}}}
	e.set.Store(&Settings{Defaults: Defaults{Security: spec.SecurityDefaults{AppArmor: "now"}}})
	for _, tc := range []struct {
		state   container.State
		started string
		options []string
		want    string
	}{
		{container.Created, "", nil, "now"},
		{container.Running, "then", nil, "then"},
		{container.Paused, "then", nil, "then"},
		{container.Exited, "then", nil, "now"},
		{container.Running, "", nil, "now"}, // of an engine that did not record it
		{container.Exited, "", []string{"apparmor=named"}, "named"},
	} {
		r := &container.Record{State: tc.state, AppArmor: tc.started, HostConfig: &apicontainer.HostConfig{SecurityOpt: tc.options}}
		if got := e.appArmor(r); got != tc.want {
			t.Errorf("%v, started with %q, %v: %q, want %q", tc.state, tc.started, tc.options, got, tc.want)
		}
	}
}
