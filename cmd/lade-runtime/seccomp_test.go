package main

import (
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// TestInvalidProfile: a profile that cannot be compiled is refused with its
// reason, by create and by run, and nothing is left of the container; it is
// compiled beside the start, when control groups are there already.
func TestInvalidProfile(t *testing.T) {
	for what, profile := range map[string]specs.LinuxSeccomp{
		"action":   {DefaultAction: "SCMP_ACT_DANCE"},
		"operator": {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Op: "SCMP_CMP_X"}}}}},
		"flag":     {DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_X"}},
	} {
		r := newRig(t, func(s *specs.Spec) { s.Linux.Seccomp = &profile })
		if code, msg := r.failsCreate(); code != 1 || !strings.Contains(msg, "not supported") {
			t.Errorf("create with an unknown %s: %d %s", what, code, msg)
		}
		if code, msg := r.fails("run", "--bundle", r.bundle, r.id); code != 1 || !strings.Contains(msg, "not supported") {
			t.Errorf("run with an unknown %s: %d %s", what, code, msg)
		}
		r.nothingLeft()
	}
}
