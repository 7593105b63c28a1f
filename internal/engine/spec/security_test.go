package spec

import (
	"testing"

	"github.com/moby/moby/api/types/container"
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
		{opts: []string{"nesting=true", "apparmor=mine"}, apparmor: "mine", seccomp: "SCMP_ACT_LOG", noNewPrivileges: true},
		{opts: []string{"nesting=true"}, apparmor: "unconfined", seccomp: "SCMP_ACT_LOG", noNewPrivileges: true},
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

// TestLabelWarnings: where containers get no labels, that is said.
func TestLabelWarnings(t *testing.T) {
	for _, tc := range []struct {
		opt      string
		labels   bool
		warnings int
	}{
		{"label=type:x", true, 0}, {"label=disable", true, 0}, {"label=type:x", false, 1}, {"label:disable", false, 0},
	} {
		w, err := Validate(nil, &container.HostConfig{SecurityOpt: []string{tc.opt}}, Facts{SELinux: true, Labels: tc.labels})
		if err != nil || len(w) != tc.warnings {
			t.Errorf("%s, labels %v: %v, %v", tc.opt, tc.labels, w, err)
		}
	}
}
