package engine

import (
	"testing"

	apicontainer "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container"
	"lade/internal/engine/spec"
	"lade/internal/errdefs"
)

// TestAppArmor: a container that runs keeps the profile that it was started with;
// test/escape TestAppArmorProfile has the kernel do so.
func TestAppArmor(t *testing.T) {
	e := &host{Config: Config{Facts: spec.Facts{AppArmor: true}}}
	e.set.Store(&Settings{Defaults: Defaults{Security: spec.SecurityDefaults{AppArmor: "now"}}})
	for _, tc := range []struct {
		state    container.State
		confined container.Confinement
		options  []string
		want     string
	}{
		{container.Created, container.Confinement{}, nil, "now"},
		{container.Running, container.Confinement{Pid: 7, AppArmor: "then"}, nil, "then"},
		{container.Paused, container.Confinement{Pid: 7, AppArmor: "then"}, nil, "then"},
		{container.Exited, container.Confinement{Pid: 7, AppArmor: "then"}, nil, "now"},
		{container.Running, container.Confinement{}, nil, "now"},                         // of an engine that did not record it
		{container.Running, container.Confinement{Pid: 6, AppArmor: "then"}, nil, "now"}, // the start before the last
		{container.Exited, container.Confinement{}, []string{"apparmor=named"}, "named"},
	} {
		r := &container.Record{State: tc.state, Pid: 7, Confined: tc.confined, HostConfig: &apicontainer.HostConfig{SecurityOpt: tc.options}}
		if got := e.appArmor(r); got != tc.want {
			t.Errorf("%v, started with %+v, %v: %q, want %q", tc.state, tc.confined, tc.options, got, tc.want)
		}
	}
}

// TestSeccompKept: the profile under which a container runs is found when another
// is configured, and kept as long as one runs under it. test/e2e
// TestSeccompKept has the kernel follow it.
func TestSeccompKept(t *testing.T) {
	const then = `{"defaultAction": "SCMP_ACT_ALLOW"}`
	e := &host{Config: Config{ExecRoot: t.TempDir()}}
	configure := func(profile string) {
		t.Helper()
		e.set.Store(&Settings{Defaults: Defaults{Security: spec.SecurityDefaults{Seccomp: profile}}})
		if err := e.keepSeccomp(); err != nil {
			t.Fatal(err)
		}
	}
	configure(then)
	r := &container.Record{State: container.Running, Pid: 7, Confined: container.Confinement{Pid: 7, Seccomp: seccompName(then)}}
	for _, now := range []string{then, "unconfined", "", then + "\n"} {
		configure(now)
		if err := e.sweepSeccomp([]*container.Record{r}); err != nil {
			t.Fatal(err)
		}
		if d, err := e.confined(r); err != nil || d.Seccomp != then {
			t.Errorf("configured with %q: %q, %v", now, d.Seccomp, err)
		}
	}
	r.Confined.Seccomp = "unconfined"
	if d, err := e.confined(r); err != nil || d.Seccomp != "unconfined" {
		t.Errorf("%q, %v", d.Seccomp, err)
	}
	if err := e.sweepSeccomp([]*container.Record{r}); err != nil {
		t.Fatal(err)
	}
	r.Confined.Seccomp = seccompName(then)
	if d, err := e.confined(r); errdefs.KindOf(err) != errdefs.DataLoss {
		t.Errorf("a profile that is gone: %q, %v", d.Seccomp, err)
	}
}
