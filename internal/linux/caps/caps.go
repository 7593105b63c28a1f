package caps

import (
	"math/bits"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/linux/sys"
)

// Set is a set of capabilities: bit n is capability number n.
type Set uint64

func names() [41]string {
	return [...]string{
		"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
		"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
		"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
		"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
		"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
		"CHECKPOINT_RESTORE",
	}
}

// Names returns the names of the capabilities in s, in the kernel's order;
// numbers without a name are left out.
func (s Set) Names() []string {
	n := names()
	out := make([]string, 0, bits.OnesCount64(uint64(s)))
	for i := range n {
		if s&(1<<i) != 0 {
			out = append(out, "CAP_"+n[i])
		}
	}
	return out
}

// Has reports whether capability number n is in s.
func (s Set) Has(n int) bool { return s&(1<<n) != 0 }

// Parse returns the set of the named capabilities. Names that this package does
// not know are returned too: newer kernels have more.
func Parse(list []string) (s Set, unknown []string) {
	n := names()
next:
	for _, name := range list {
		short, _ := strings.CutPrefix(name, "CAP_")
		for i := range n {
			if n[i] == short {
				s |= 1 << i
				continue next
			}
		}
		unknown = append(unknown, name)
	}
	return s, unknown
}

// Last returns the number of the last capability that the kernel knows. It asks
// prctl(2), some six times, which costs less than to read
// /proc/sys/kernel/cap_last_cap.
func Last() (int, error) {
	n := sort.Search(64, func(n int) bool {
		_, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0)
		return err != nil
	})
	if n == 0 {
		return 0, sys.Error("prctl", "PR_CAPBSET_READ", unix.EINVAL)
	}
	return n - 1, nil
}

// Permitted returns the calling thread's permitted set.
func Permitted() (Set, error) {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if err := unix.Capget(&h, &d[0]); err != nil {
		return 0, err
	}
	return Set(d[0].Permitted) | Set(d[1].Permitted)<<32, nil
}
