package mount

import (
	"slices"
	"strings"
)

// InSight reports whether a mount namespace, given by its mountinfo, shows a proc
// and a sysfs of which nothing is hidden: only then a copy of it that belongs to
// another user namespace can get such file systems of its own. Where it says yes
// that is so; where it says no there may be more than it knows.
//
// Source: mount_too_revealing and mnt_already_visible in fs/namespace.c.
func InSight(mountinfo string) bool {
	var all []entry
	for line := range strings.Lines(mountinfo) {
		f := strings.Fields(line)
		dash := slices.Index(f, "-")
		if dash < 6 || len(f) < dash+4 {
			return false
		}
		all = append(all, entry{id: f[0], parent: f[1], root: f[3], point: f[4], options: f[5], kind: f[dash+1], super: f[dash+3]})
	}
	// Directories that the kernel has made for nothing but to be mounted on; with a
	// slash at its end, all below.
	return shown(all, "proc", "/sys/fs/binfmt_misc", "/fs/nfsd") &&
		shown(all, "sysfs", "/fs/", "/kernel/debug", "/kernel/tracing", "/kernel/config", "/kernel/security", "/firmware/efi/efivars")
}

// entry is a line of mountinfo.
type entry struct{ id, parent, root, point, options, kind, super string }

// shown reports whether a file system is mounted whole, writable, with the usual
// access times (a copy in another user namespace cannot change these), and with
// nothing mounted in it but in holes.
func shown(all []entry, kind string, holes ...string) bool {
	return slices.ContainsFunc(all, func(m entry) bool {
		return m.kind == kind && m.root == "/" && option(m.options, "rw") && option(m.options, "relatime") && option(m.super, "rw") &&
			!slices.ContainsFunc(all, func(below entry) bool {
				return below.parent == m.id && !inHole(strings.TrimPrefix(below.point, m.point), holes)
			})
	})
}

func option(list, name string) bool { return strings.Contains(","+list+",", ","+name+",") }

func inHole(point string, holes []string) bool {
	return slices.ContainsFunc(holes, func(h string) bool {
		return point == h || strings.HasSuffix(h, "/") && strings.HasPrefix(point, h)
	})
}
