package caps

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Reduce leaves the process the capabilities of keep and no others, on all
// threads, and no way to gain more by an execve(2). Errors: EPERM for one that it
// has not.
//
// Source: capset(2), PR_SET_NO_NEW_PRIVS in prctl(2).
func Reduce(keep Set) error {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	d := [2]unix.CapUserData{
		{Effective: uint32(keep), Permitted: uint32(keep)},
		{Effective: uint32(keep >> 32), Permitted: uint32(keep >> 32)},
	}
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); errno != 0 {
		return os.NewSyscallError("prctl(PR_SET_NO_NEW_PRIVS)", errno)
	}
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&h)), uintptr(unsafe.Pointer(&d[0])), 0); errno != 0 {
		return os.NewSyscallError("capset", errno)
	}
	return nil
}
