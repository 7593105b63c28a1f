package lxc

import (
	"bytes"
	"fmt"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// filter translates a profile to a policy of LXC, version 2. Errors: Invalid
// for an action that it does not know.
func filter(s *specs.LinuxSeccomp) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("2\n")
	base, err := action(s.DefaultAction, s.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	if s.DefaultAction == specs.ActAllow {
		b.WriteString("denylist allow\n")
	} else {
		b.WriteString("allowlist " + base + "\n")
	}
	b.WriteString("[all]\n")
	for _, r := range s.Syscalls {
		what, err := action(r.Action, r.ErrnoRet)
		if err != nil {
			return nil, err
		}
		args := ""
		for _, a := range r.Args {
			if a.Op == specs.OpMaskedEqual { // the mask is the first value
				args += fmt.Sprintf(" [%d,%d,%s,%d]", a.Index, a.ValueTwo, a.Op, a.Value)
			} else {
				args += fmt.Sprintf(" [%d,%d,%s]", a.Index, a.Value, a.Op)
			}
		}
		for _, name := range r.Names {
			b.WriteString(name + " " + what + args + "\n")
		}
	}
	return b.Bytes(), nil
}

func action(a specs.LinuxSeccompAction, errno *uint) (string, error) {
	switch a {
	case specs.ActAllow:
		return "allow", nil
	case specs.ActErrno:
		n := uint(unix.EPERM)
		if errno != nil {
			n = *errno
		}
		return "errno " + strconv.FormatUint(uint64(n), 10), nil
	case specs.ActKill, specs.ActKillThread, specs.ActKillProcess:
		return "kill", nil
	case specs.ActTrap:
		return "trap", nil
	}
	return "", errdefs.Invalidf("runtime lxc cannot do this: the action %s of a seccomp profile", a)
}
