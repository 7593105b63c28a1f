package runtime

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// TestGuarded executes in a container whose processes may trace others: all is
// as in any other, and failures are told in the same words.
func TestGuarded(t *testing.T) {
	s := newSandbox(t)
	c := s.container("sleep")
	r, err := s.start(c)
	if err != nil {
		t.Fatal(err)
	}
	proc := *c.Spec.Process
	proc.Args = []string{payload, "report"}
	for _, nnp := range []bool{false, true} {
		proc.NoNewPrivileges = nnp
		plain, code := s.exec(r, &Exec{Process: &proc, User: "app", Filter: defaultFilter(t)})
		if code != 0 {
			t.Fatalf("%d %s", code, plain)
		}
		out, code := s.exec(r, &Exec{Process: &proc, User: "app", Filter: defaultFilter(t), Traced: true})
		if code != 0 {
			t.Fatalf("%d %s", code, out)
		}
		got, want := parseReport(t, out), parseReport(t, plain)
		if got.Sid != got.Pid || got.Pgid != got.Pid || len(got.FDs) != 3 {
			t.Errorf("process %d, session %d, group %d, descriptors %v", got.Pid, got.Sid, got.Pgid, got.FDs)
		}
		for _, key := range []string{"Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters", "SigBlk", "SigIgn", "PPid"} {
			if got.Status[key] != want.Status[key] {
				t.Errorf("%s is %q, else %q", key, got.Status[key], want.Status[key])
			}
		}
		for name, ns := range want.Namespaces {
			if got.Namespaces[name] != ns {
				t.Errorf("namespace %s is %s, else %s", name, got.Namespaces[name], ns)
			}
		}
		if strings.Join(got.Cgroups, " ") != strings.Join(want.Cgroups, " ") {
			t.Errorf("control groups %v, else %v", got.Cgroups, want.Cgroups)
		}
	}
	for _, tc := range []struct {
		command string
		code    int
		errno   unix.Errno
	}{{"/no/such", 127, unix.ENOENT}, {"nosuch", 127, unix.ENOENT}, {"/etc/data", 126, unix.EACCES}, {"/bin/garbage", 126, unix.ENOEXEC}, {"/bin", 126, unix.EACCES}} {
		proc.Args = []string{tc.command}
		_, err := s.l.Exec(t.Context(), &Exec{Pid: r.Pid, Pidfd: r.Pidfd, Cgroup: r.Cgroup, Process: &proc, Stdin: -1, Stdout: -1, Stderr: -1, Traced: true})
		if se, ok := errors.AsType[*StartError](err); !ok || se.Code != tc.code || se.Errno != tc.errno {
			t.Errorf("%s: %v", tc.command, err)
		}
	}
	r.end()
	proc.Args = []string{payload, "exit", "0"}
	if _, err := s.l.Exec(t.Context(), &Exec{Pid: r.Pid, Pidfd: -1, Process: &proc, Stdin: -1, Stdout: -1, Stderr: -1, Traced: true}); err == nil {
		t.Error("an exec in an ended container")
	} else if errdefs.KindOf(err) == errdefs.Invalid {
		t.Error(err)
	}
}
