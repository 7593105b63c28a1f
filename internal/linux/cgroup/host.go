package cgroup

import (
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/sys"
)

// Version is the layout of the host's control groups.
type Version int

// The layouts. V1 also stands for a host whose unified hierarchy is not
// mounted.
const (
	V1     Version = 1
	V2     Version = 2
	Hybrid Version = 3 // controllers in v1, and a unified hierarchy beside them
)

// Host is the set of mounted hierarchies.
type Host struct {
	v1      []*hierarchy
	unified *hierarchy            // nil: none
	named   []*hierarchy          // without controllers, beside a unified one: for delegated groups
	at      map[string]*hierarchy // where a controller is, by the name it has there
	kill    bool                  // groups of the unified hierarchy have cgroup.kill (Linux 5.14)
	devices deviceProgram
	nested  bool // this process is in a user namespace
}

// hierarchy is one mounted tree of control groups.
type hierarchy struct {
	dir         int    // O_PATH descriptor of the mount point
	mount       string // for messages
	controllers []string
	v2          bool
}

// Detect reads which hierarchies are mounted in the caller's mount namespace.
// The Host keeps a descriptor for each of them until Close; a program needs one
// Host. Errors: Unavailable if there is none.
func Detect() (*Host, error) {
	b, err := sys.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return newHost(parseMounts(string(b)))
}

// newHost opens the mount points. On failure the descriptors opened before are
// lost to the caller, so they are closed.
func newHost(found []*hierarchy) (_ *Host, err error) {
	h := &Host{at: map[string]*hierarchy{}, nested: sys.Nested()}
	h.devices.fd = -1
	var opened []int
	defer func() {
		if err != nil {
			closeAll(opened)
		}
	}()
	for _, m := range found {
		if m.dir, err = unix.Open(m.mount, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return nil, &os.PathError{Op: "open", Path: m.mount, Err: err}
		}
		opened = append(opened, m.dir)
		if m.v2 {
			h.unified = m
			names, err := m.read("", "cgroup.controllers")
			if err != nil {
				return nil, err
			}
			m.controllers = strings.Fields(names)
		} else {
			h.v1 = append(h.v1, m)
		}
		for _, c := range m.controllers {
			h.at[c] = m
		}
	}
	// The named v1 hierarchy is where systemd tracks services when there is no
	// unified one; beside a unified one only a service manager in a container
	// wants it.
	if h.unified != nil {
		h.v1 = slices.DeleteFunc(h.v1, func(m *hierarchy) bool {
			if len(m.controllers) == 0 {
				h.named = append(h.named, m)
				return true
			}
			return false
		})
		h.kill = kernelAtLeast(5, 14)
	}
	if len(h.v1) == 0 && h.unified == nil {
		return nil, errdefs.Unavailablef("no control group hierarchy is mounted")
	}
	return h, nil
}

// Close gives the host's descriptors back. No group of it may be used any more.
func (h *Host) Close() {
	for _, m := range slices.Concat(h.all(), h.named) {
		unix.Close(m.dir)
	}
	h.devices.mu.Lock()
	defer h.devices.mu.Unlock()
	if h.devices.fd >= 0 {
		unix.Close(h.devices.fd)
		h.devices.key, h.devices.fd = "", -1
	}
}

// known are the options of a v1 mount that name controllers, as opposed to
// "rw", "xattr", "name=…".
const known = " blkio cpu cpuacct cpuset devices freezer hugetlb memory misc net_cls net_prio perf_event pids rdma "

// parseMounts finds the hierarchies in a mountinfo file; see
// proc_pid_mountinfo(5). Of several mounts of one hierarchy the first counts:
// later ones are bind mounts in containers.
func parseMounts(mountinfo string) (found []*hierarchy) {
	seen := map[string]bool{}
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		if !ok || !strings.HasPrefix(after, "cgroup") {
			continue
		}
		where, what := strings.Fields(before), strings.Fields(after)
		if len(where) < 5 || len(what) < 3 {
			continue
		}
		m := &hierarchy{dir: -1, mount: unescape(where[4])}
		key := what[0]
		switch what[0] {
		case "cgroup2":
			m.v2 = true
		case "cgroup":
			for o := range strings.SplitSeq(what[2], ",") {
				if strings.Contains(known, " "+o+" ") {
					m.controllers = append(m.controllers, o)
				}
				if strings.HasPrefix(o, "name=") {
					key += o
				}
			}
			slices.Sort(m.controllers)
			key += strings.Join(m.controllers, ",")
		default:
			continue
		}
		if !seen[key] {
			seen[key] = true
			found = append(found, m)
		}
	}
	return found
}

// unescape decodes the octal escapes of mountinfo.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// kernelAtLeast compares the running kernel's version.
func kernelAtLeast(major, minor int) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	a, rest, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), ".")
	b := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
	x, _ := strconv.Atoi(a)
	y, _ := strconv.Atoi(b)
	return x > major || x == major && y >= minor
}

// Version tells the layout.
func (h *Host) Version() Version {
	switch {
	case h.unified == nil:
		return V1
	case len(h.v1) == 0:
		return V2
	}
	return Hybrid
}

// Controllers returns the names of the controllers that groups can use, sorted:
// "blkio" is a v1 name, "io" its v2 counterpart.
func (h *Host) Controllers() []string { return slices.Sorted(maps.Keys(h.at)) }

// Unified returns the controllers of the unified hierarchy, or nil if it is not
// mounted.
func (h *Host) Unified() map[string]bool {
	if h.unified == nil {
		return nil
	}
	out := map[string]bool{}
	for _, c := range h.unified.controllers {
		out[c] = true
	}
	return out
}

// Mounts returns the mount point of every hierarchy by its controllers
// ("cpu,cpuacct"); the unified hierarchy's key is "".
func (h *Host) Mounts() map[string]string {
	out := map[string]string{}
	for _, m := range h.v1 {
		if len(m.controllers) > 0 {
			out[strings.Join(m.controllers, ",")] = m.mount
		}
	}
	if h.unified != nil {
		out[""] = h.unified.mount
	}
	return out
}

// Features tells which limits groups of this host can have.
type Features struct {
	Memory, Swap, Reservation, Swappiness, OOMDisable bool
	CPUShares, CPUQuota, CPURealtime, Cpuset          bool
	Pids, Devices                                     bool
	IOWeight, IOWeightDevice, IOThrottle              bool
	Hugetlb, RDMA                                     bool
}

// Features looks which files groups have. It reads directories, may make a group
// for a moment, and is meant to be called once.
func (h *Host) Features() Features {
	_, v1mem := h.v1At("memory")
	_, v2mem := h.v2At("memory")
	_, v2cpu := h.v2At("cpu")
	_, v2io := h.v2At("io")
	_, cpuset := h.at["cpuset"]
	_, pids := h.at["pids"]
	_, huge := h.at["hugetlb"]
	_, rdma := h.at["rdma"]
	_, v1dev := h.v1At("devices")
	has := func(controller, file string) bool {
		m, ok := h.v1At(controller)
		return ok && m.has("", file)
	}
	below := func(controller string, files ...string) bool {
		m, ok := h.v1At(controller)
		return ok && m.hasBelow(files...)
	}
	return Features{
		Memory:         v1mem || v2mem,
		Swap:           has("memory", "memory.memsw.limit_in_bytes") || v2mem && swapAccounting(h.unified),
		Reservation:    has("memory", "memory.soft_limit_in_bytes") || v2mem,
		Swappiness:     has("memory", "memory.swappiness"),
		OOMDisable:     has("memory", "memory.oom_control"),
		CPUShares:      has("cpu", "cpu.shares") || v2cpu,
		CPUQuota:       has("cpu", "cpu.cfs_quota_us") || v2cpu,
		CPURealtime:    has("cpu", "cpu.rt_runtime_us"),
		Cpuset:         cpuset,
		Pids:           pids,
		Devices:        v1dev || h.unified != nil,
		IOWeight:       below("blkio", "blkio.weight", "blkio.bfq.weight") || v2io,
		IOWeightDevice: below("blkio", "blkio.weight_device", "blkio.bfq.weight_device") || v2io,
		IOThrottle:     has("blkio", "blkio.throttle.read_bps_device") || v2io,
		Hugetlb:        huge,
		RDMA:           rdma,
	}
}

// has reports whether a group has a file.
func (m *hierarchy) has(group, file string) bool {
	return unix.Faccessat(m.dir, join(group, file), unix.F_OK, 0) == nil
}

// hasBelow reports whether the root's children have one of the files, which it
// has not itself: weights are against siblings (CFTYPE_NOT_ON_ROOT).
func (m *hierarchy) hasBelow(files ...string) bool {
	some := func(group string) bool {
		return slices.ContainsFunc(files, func(f string) bool { return m.has(group, f) })
	}
	const probe = "lade-probe"
	defer unix.Unlinkat(m.dir, probe, unix.AT_REMOVEDIR) // also one that somebody had no time to remove
	if children := m.children(""); len(children) > 0 {
		return some(children[0])
	}
	return unix.Mkdirat(m.dir, probe, 0o755) == nil && some(probe)
}

// swapAccounting reports whether v2 groups have memory.swap.max. The root has
// none, so a child that exists is asked; without one the default is assumed.
func swapAccounting(m *hierarchy) bool {
	for _, name := range m.children("") {
		if unix.Faccessat(m.dir, path.Join(name, "memory.max"), unix.F_OK, 0) == nil {
			return unix.Faccessat(m.dir, path.Join(name, "memory.swap.max"), unix.F_OK, 0) == nil
		}
	}
	return true
}

func (h *Host) v1At(controller string) (*hierarchy, bool) {
	m, ok := h.at[controller]
	return m, ok && !m.v2
}

func (h *Host) v2At(controller string) (*hierarchy, bool) {
	m, ok := h.at[controller]
	return m, ok && m.v2
}

// all returns every hierarchy in which a group has a directory.
func (h *Host) all() []*hierarchy {
	if h.unified == nil {
		return h.v1
	}
	return append(h.v1[:len(h.v1):len(h.v1)], h.unified)
}

// pageSizes returns the huge page sizes in the words of file names ("2MB").
//
// Source: /sys/kernel/mm/hugepages, Documentation/admin-guide/mm/hugetlbpage.rst.
func (h *Host) pageSizes() (sizes []string) {
	entries, err := os.ReadDir("/sys/kernel/mm/hugepages")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		kb, ok := strings.CutPrefix(e.Name(), "hugepages-")
		n, err := strconv.ParseUint(strings.TrimSuffix(kb, "kB"), 10, 64)
		if !ok || err != nil {
			continue
		}
		unit := 0
		for ; n >= 1024 && unit < 2; unit++ {
			n /= 1024
		}
		sizes = append(sizes, strconv.FormatUint(n, 10)+[]string{"KB", "MB", "GB"}[unit])
	}
	return sizes
}
