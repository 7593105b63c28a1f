package spec

import (
	"errors"
	"testing"

	"github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

// TestSecurityDefaults says whose word counts: the container's, that of
// --privileged, the daemon's.
func TestSecurityDefaults(t *testing.T) {
	const own = `{"defaultAction": "SCMP_ACT_LOG", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}`
	d := SecurityDefaults{NoNewPrivileges: true, Seccomp: own, AppArmor: "lade-default"}
	f := Facts{Seccomp: true, AppArmor: true}
	for _, tc := range []struct {
		privileged        bool
		opts              []string
		apparmor, seccomp string // the profile's default action; "": none
		noNewPrivileges   bool
		withoutAA         bool // a kernel that has no AppArmor
	}{
		{apparmor: "lade-default", seccomp: "SCMP_ACT_LOG", noNewPrivileges: true},
		{privileged: true, apparmor: "unconfined", noNewPrivileges: true},
		{privileged: true, opts: []string{"apparmor=mine", "seccomp=" + own}, apparmor: "mine", seccomp: "SCMP_ACT_LOG", noNewPrivileges: true},
		{opts: []string{"apparmor=unconfined", "seccomp=unconfined", "no-new-privileges=false"}, apparmor: "unconfined"},
		{opts: []string{"seccomp=builtin"}, apparmor: "lade-default", seccomp: "SCMP_ACT_ERRNO", noNewPrivileges: true},
		{opts: []string{"apparmor=mine"}, withoutAA: true, seccomp: "SCMP_ACT_LOG", noNewPrivileges: true},
	} {
		hc := &container.HostConfig{Privileged: tc.privileged, SecurityOpt: tc.opts}
		in := Input{Host: hc, Facts: f, Security: d}
		in.Facts.AppArmor = !tc.withoutAA
		s, err := parseSecurity(hc, d)
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.profile(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		action := ""
		if p != nil {
			action = string(p.DefaultAction)
		}
		if got := s.apparmorProfile(in); got != tc.apparmor || action != tc.seccomp || s.noNewPrivileges != tc.noNewPrivileges {
			t.Errorf("%v %v: apparmor %q, seccomp %q, no_new_privs %v", tc.privileged, tc.opts, got, action, s.noNewPrivileges)
		}
		if got := AppArmorProfile(hc, in.Facts, d); got != tc.apparmor {
			t.Errorf("inspect shows %q", got)
		}
	}
}

// TestLabels refuses what would be ignored where it counts, and warns where it
// does not.
func TestLabels(t *testing.T) {
	for _, tc := range []struct {
		opt      string
		selinux  bool
		kind     errdefs.Kind
		warnings int
	}{
		{"label=type:x", true, errdefs.NotImplemented, 0}, {"label=disable", true, 0, 0}, {"label=type:x", false, 0, 1}, {"label:disable", false, 0, 0},
	} {
		w, err := Validate(nil, &container.HostConfig{SecurityOpt: []string{tc.opt}}, Facts{SELinux: tc.selinux})
		if tc.kind == 0 && err != nil || tc.kind != 0 && !errors.Is(err, tc.kind) || len(w) != tc.warnings {
			t.Errorf("%s, SELinux %v: %v, %v", tc.opt, tc.selinux, w, err)
		}
	}
}
