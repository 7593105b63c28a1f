package seccomp

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// load installs a profile for the calling thread.
func load(s *specs.LinuxSeccomp) error {
	code, err := Compile(s)
	if err != nil {
		return err
	}
	flags, err := Flags(s)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	fprog := unix.SockFprog{Len: uint16(len(code) / 8), Filter: (*unix.SockFilter)(unsafe.Pointer(&code[0]))}
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flags), uintptr(unsafe.Pointer(&fprog))); errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}

// act makes a call that the action named is for, beside a thread without the
// filter that tells whether the process lives on.
func act(action string) error {
	done := make(chan error, 1)
	go func() {
		err := load(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow},
			Syscalls: []specs.LinuxSyscall{{Names: []string{"getppid"}, Action: specs.LinuxSeccompAction(action), ErrnoRet: errnoFor(action)}}})
		if err == nil {
			// Not RawSyscall: a thread that is gone would keep its processor of the
			// scheduler, where there may be one.
			_, _, errno := unix.Syscall(unix.SYS_GETPPID, 0, 0, 0)
			fmt.Printf("errno %d\n", errno)
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(500 * time.Millisecond):
		fmt.Println("the thread is gone")
		return nil
	}
}

// errnoFor returns errnoRet of a rule, where the action takes one.
func errnoFor(action string) *uint {
	if action == string(specs.ActErrno) {
		return new(uint(unix.EXDEV))
	}
	return nil
}

// TestActions asks the kernel what each action does.
func TestActions(t *testing.T) {
	for action, want := range map[specs.LinuxSeccompAction]struct {
		out    string
		signal syscall.Signal
		code   int
	}{
		specs.ActAllow:       {out: "errno 0\n"},
		specs.ActLog:         {out: "errno 0\n"},
		specs.ActErrno:       {out: fmt.Sprintf("errno %d\n", unix.EXDEV)},
		specs.ActTrace:       {out: fmt.Sprintf("errno %d\n", unix.ENOSYS)}, // nobody traces
		specs.ActTrap:        {code: 2},                                     // SIGSYS, of which Go's runtime says so
		specs.ActKill:        {out: "the thread is gone\n"},
		specs.ActKillThread:  {out: "the thread is gone\n"},
		specs.ActKillProcess: {signal: unix.SIGSYS},
	} {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
		cmd.Env = append(os.Environ(), inside+"="+string(action))
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		var signal syscall.Signal
		code := 0
		if ee, ok := errors.AsType[*exec.ExitError](err); ok {
			ws := ee.Sys().(syscall.WaitStatus)
			if code = ws.ExitStatus(); ws.Signaled() {
				signal, code = ws.Signal(), 0
			}
		} else if err != nil {
			t.Fatal(err)
		}
		if string(out) != want.out || signal != want.signal || code != want.code {
			t.Errorf("%s: %q, signal %v, code %d; want %+v\n%s", action, out, signal, code, want, stderr.String())
		}
		if action == specs.ActTrap && !strings.Contains(stderr.String(), "SIGSYS") {
			t.Errorf("%s: %s", action, stderr.String())
		}
	}
}
