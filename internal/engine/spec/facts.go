package spec

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/linux/apparmor"
	"lade/internal/linux/caps"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/seccomp/profile"
	"lade/internal/linux/selinux"
)

// Detect reads the facts of this host, of which the control groups are known.
// It is meant to be called once, when the engine starts.
func Detect(h *cgroup.Host) (Facts, error) {
	f := Facts{CgroupVersion: 1, CPUs: runtime.NumCPU(), Limits: h.Features(), Controllers: map[string]bool{}}
	if h.Version() == cgroup.V2 {
		f.CgroupVersion = 2
	}
	f.Swap = f.Limits.Swap
	for _, c := range h.Controllers() {
		f.Controllers[c] = true
	}
	f.Unified = h.Unified()
	if f.Controllers["io"] {
		f.Controllers["blkio"] = true
	}
	permitted, err := caps.Permitted()
	if err != nil {
		return f, err
	}
	f.Capabilities = permitted.Names()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return f, os.NewSyscallError("uname", err)
	}
	f.Kernel = unix.ByteSliceToString(u.Release[:])
	// seccomp(2): PR_GET_SECCOMP fails with EINVAL where there is none.
	_, err = unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	f.Seccomp, f.Profiles = err == nil, new(profile.Defaults)
	f.AppArmor = apparmor.Enabled()
	f.SELinux = selinux.Enabled()
	f.CPUSet, f.MemSet = word("/sys/devices/system/cpu/online"), word("/sys/devices/system/node/online")
	// An invalid call of mount_setattr(2) tells EINVAL or EBADF where it exists.
	err = unix.MountSetattr(-1, "", 0xffffffff, &unix.MountAttr{})
	f.RecursiveReadOnly = err != unix.ENOSYS
	f.Sysctls = map[string]string{}
	for name, value := range map[string]string{
		"net.ipv4.ping_group_range":           "0 2147483647", // echo requests without CAP_NET_RAW
		"net.ipv4.ip_unprivileged_port_start": "0",            // low ports without CAP_NET_BIND_SERVICE
	} {
		if exists("/proc/sys/" + strings.ReplaceAll(name, ".", "/")) {
			f.Sysctls[name] = value
		}
	}
	// Counters that leak what others compute: GHSA-6fw5-f8r9-fgfm.
	f.Masked, err = filepath.Glob("/sys/devices/system/cpu/cpu*/thermal_throttle")
	slices.Sort(f.Masked)
	return f, err
}

func exists(path string) bool { return unix.Access(path, unix.F_OK) == nil }

// word returns a file's content without its line end, or nothing.
func word(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
