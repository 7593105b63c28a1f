package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// sockets asks for sockets of the families that the default profile forbids: of the
// kernel's cryptography (CVE-2026-31431) and of the hypervisor's host. The kernel
// takes the lower half of a register for the family, a filter sees the whole of it
// (CVE-2026-123876).
func sockets([]string) error {
	upper := []uint64{0}
	if unsafe.Sizeof(uintptr(0)) == 8 {
		upper = append(upper, 1<<32, 1<<63, 0xffffffff<<32)
	}
	for _, family := range []uint64{unix.AF_ALG, unix.AF_VSOCK} {
		for _, bits := range upper {
			n := family | bits
			// Whether the kernel has the family or not: it was asked.
			if fd, _, errno := unix.RawSyscall(unix.SYS_SOCKET, uintptr(n), unix.SOCK_SEQPACKET, 0); errno == unix.EPERM {
				held("family %#x: %v", n, errno)
			} else if escaped("family %#x reaches the kernel: %v", n, errno); errno == 0 {
				unix.Close(int(fd))
			}
		}
	}
	return nil
}

// streams says what the standard streams are: CVE-2026-88265 makes them a file.
func streams([]string) error {
	for fd := range 3 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		if kind := st.Mode & unix.S_IFMT; kind == unix.S_IFREG {
			escaped("descriptor %d is a file", fd)
		} else {
			held("descriptor %d is of kind %#o", fd, kind)
		}
	}
	return nil
}
