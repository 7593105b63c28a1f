package runtime

import (
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// attachKernel mounts a procfs or sysfs. Its place must be a directory and no
// symbolic link: one could point into a volume, where others exchange what the
// masks are put on (CVE-2019-19921, CVE-2023-27561, CVE-2023-28642).
func (b *builder) attachKernel(fs ref, dest string) {
	b.attachTo(fs, b.ensureAs(dest, false, b.addr.plain), dest)
	b.covered(dest)
	if b.kernel == nil {
		b.kernel = map[string]ref{}
	}
	b.kernel[dest] = fs
}

// fileSystemOf returns from where to look for a path that is to be masked or
// made read-only: the container's own procfs or sysfs, whatever has become of
// the directories above; else its root.
func (b *builder) fileSystemOf(p string) (dir ref, name string) {
	for at, fs := range b.kernel {
		if rest, ok := strings.CutPrefix(p, at); ok && strings.HasPrefix(rest, "/") {
			return fs, rest
		}
	}
	return known(b.root), p
}

// checkProc refuses mounts on /proc and below: what is written there in the
// container's name, sysctls and labels of security modules, would go elsewhere,
// and masks would hide the wrong things (CVE-2019-16884, CVE-2025-52881).
// Single files may be replaced that only tell something, as LXCFS does. source
// is the detached bind mount, or -1. Errors: Invalid.
func checkProc(dest, what string, source int) error {
	name, below := strings.CutPrefix(dest+"/", "/proc/")
	if !below {
		return nil
	}
	if name == "" {
		var fs unix.Statfs_t
		if source >= 0 && unix.Fstatfs(source, &fs) == nil && fs.Type == unix.PROC_SUPER_MAGIC {
			return nil
		}
	} else if strings.Contains(replaceable, " "+strings.TrimSuffix(name, "/")+" ") {
		return nil
	}
	return errdefs.Invalidf("%s: %q cannot be mounted because it is inside /proc", what, dest)
}

// replaceable are the files of /proc that a mount may cover.
const replaceable = " cpuinfo diskstats meminfo stat swaps uptime loadavg slabinfo sys/kernel/ns_last_pid sys/crypto/fips_enabled "
