package seccomp

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	dockers "lade/internal/linux/seccomp/profile"
)

// inside makes the test binary load a profile and report what calls answer.
const inside = "LADE_TEST_SECCOMP"

func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" {
		run := report
		if strings.HasPrefix(os.Getenv(inside), "SCMP_ACT_") {
			run = act
		}
		if err := run(os.Getenv(inside)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func report(which string) error {
	s, err := dockers.Default(dockerCaps())
	if err != nil {
		return err
	}
	if which == "rules" {
		s = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
			{Names: []string{"getppid"}, Action: specs.ActErrno, ErrnoRet: new(uint(unix.EXDEV))},
			{Names: []string{"dup"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Op: specs.OpGreaterThan, Value: 1 << 40}}},
		}}
	}
	if err := load(s); err != nil {
		return err
	}
	for _, c := range []struct {
		name       string
		nr, a0, a1 uintptr
	}{
		{"getpid", unix.SYS_GETPID, 0, 0},
		{"getppid", unix.SYS_GETPPID, 0, 0},
		{"dup low", unix.SYS_DUP, 1 << 40, 0},
		{"dup high", unix.SYS_DUP, 1<<40 + 1, 0},
		{"reboot", unix.SYS_REBOOT, 1, 2},
		{"clone newuser", unix.SYS_CLONE, unix.CLONE_NEWUSER, 0},
		{"clone3", unix.SYS_CLONE3, 0, 0},
		{"socket alg", unix.SYS_SOCKET, unix.AF_ALG, unix.SOCK_SEQPACKET},
		{"socket unix", unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM},
		{"newer than all", 1000, 0, 0},
	} {
		if which == "rules" && c.nr == unix.SYS_CLONE {
			continue // nothing would hold it back
		}
		_, _, errno := unix.RawSyscall(c.nr, c.a0, c.a1, 0)
		fmt.Printf("%s=%d\n", c.name, errno)
	}
	return nil
}

// TestInstalled loads compiled profiles into the kernel.
func TestInstalled(t *testing.T) {
	for which, want := range map[string]map[string]unix.Errno{
		"default": {"getpid": 0, "getppid": 0, "reboot": unix.EPERM, "clone newuser": unix.EPERM, "clone3": unix.ENOSYS,
			"socket alg": unix.EPERM, "socket unix": 0, "newer than all": unix.ENOSYS},
		"rules": {"getpid": 0, "getppid": unix.EXDEV, "dup low": 0, "dup high": unix.EPERM},
	} {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
		cmd.Env = append(os.Environ(), inside+"="+which)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", which, err, out)
		}
		for name, errno := range want {
			if line := fmt.Sprintf("%s=%d\n", name, errno); !strings.Contains(string(out), line) {
				t.Errorf("%s: no %q in\n%s", which, line, out)
			}
		}
	}
}
