package spec

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/linux/idmap"
)

// defaultShmSize is the size of /dev/shm in bytes unless the container says
// otherwise.
const defaultShmSize = 64 << 20

// ttyGroup is the group of terminals, in Debian and in most images.
const ttyGroup = 5

// defaultMounts are the kernel's file systems in a container.
func defaultMounts(in Input) []specs.Mount {
	size := in.Host.ShmSize
	if size == 0 {
		size = defaultShmSize
	}
	list := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
	}
	if _, _, mapped := in.User.Host(0, ttyGroup); mapped || in.User.Empty() {
		pts := &list[slices.IndexFunc(list, func(m specs.Mount) bool { return m.Type == "devpts" })]
		pts.Options = append(pts.Options, "gid="+strconv.Itoa(ttyGroup))
	}
	shm := in.Shm
	if shm == "" && in.Namespaces.IPC == "host" {
		shm = "/dev/shm"
	}
	switch {
	case in.Host.IpcMode.IsNone():
	case shm != "":
		list = append(list, specs.Mount{Destination: "/dev/shm", Type: "bind", Source: shm, Options: []string{"rbind", "rprivate"}})
	default:
		list = append(list, specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
			Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(size, 10)}})
	}
	return list
}

// mounts fills s.Mounts: the kernel's file systems, the engine's files, the
// user's mounts, each after what it may be mounted on. A user's mount replaces
// the default of the same destination; on /dev, everything below it too.
func mounts(s *specs.Spec, in Input, sec *security) error {
	users := append(slices.Clone(in.Mounts), tmpfses(in)...)
	taken := map[string]bool{}
	for _, m := range users {
		if !path.IsAbs(m.Destination) {
			return errdefs.Invalidf("invalid mount path: '%s' mount path must be absolute", m.Destination)
		}
		d := path.Clean(m.Destination)
		if d == "/" {
			return errdefs.Invalidf("invalid specification: destination can't be '/'")
		}
		taken[d] = true
	}
	for _, m := range defaultMounts(in) {
		if taken[m.Destination] || taken["/dev"] && strings.HasPrefix(m.Destination, "/dev/") {
			continue
		}
		writable := in.Host.Privileged
		if m.Type == "cgroup" && sec.writableCgroups != nil {
			writable = *sec.writableCgroups
		}
		if writable && (m.Type == "sysfs" || m.Type == "cgroup") {
			m.Options = slices.DeleteFunc(m.Options, func(o string) bool { return o == "ro" })
		}
		if in.Host.ReadonlyRootfs && (m.Type == "sysfs" || m.Type == "cgroup") && !slices.Contains(m.Options, "ro") {
			m.Options = append(m.Options, "ro")
		}
		s.Mounts = append(s.Mounts, m)
	}
	for _, f := range []struct{ source, destination string }{
		{in.Files.Resolv, "/etc/resolv.conf"}, {in.Files.Hostname, "/etc/hostname"}, {in.Files.Hosts, "/etc/hosts"},
	} {
		if f.source != "" && !taken[f.destination] {
			users = append(users, Mount{Type: "bind", Source: f.source, Destination: f.destination, ReadOnly: in.Host.ReadonlyRootfs, Propagation: "rprivate", IDMap: true})
		}
	}
	slices.SortStableFunc(users, func(a, b Mount) int { return cmp.Compare(depth(a.Destination), depth(b.Destination)) })
	for _, m := range users {
		om, err := m.oci(in.Facts)
		if err != nil {
			return err
		}
		if m.IDMap && !in.User.Empty() {
			om.Options = append(om.Options, "idmap")
		}
		if err := checkOwners(om, in.User); err != nil {
			return err
		}
		if err := translate(&om, in.User); err != nil {
			return err
		}
		s.Mounts = append(s.Mounts, om)
		s.Linux.RootfsPropagation = rootPropagation(s.Linux.RootfsPropagation, m.Propagation)
	}
	return nil
}

// checkOwners refuses to give a tmpfs to a user or a group that the container's
// user namespace does not have: of the kernel it would be an invalid argument.
// Errors: Invalid.
func checkOwners(m specs.Mount, user idmap.Map) error {
	if m.Type != "tmpfs" || user.Empty() {
		return nil
	}
	for _, o := range m.Options {
		kind, value, _ := strings.Cut(o, "=")
		id, err := strconv.ParseUint(value, 10, 32)
		if kind != "uid" && kind != "gid" || err != nil {
			continue
		}
		_, _, asUser := user.Host(uint32(id), 0)
		_, _, asGroup := user.Host(0, uint32(id))
		if kind == "uid" && !asUser || kind == "gid" && !asGroup {
			return errdefs.Invalidf("invalid tmpfs option [%q]: the id is not mapped in the container's user namespace", o)
		}
	}
	return nil
}

// Delegates reports whether a container may write to its control groups: it is
// to make its own below them.
func Delegates(s *specs.Spec) bool {
	return slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return m.Type == "cgroup" && !slices.Contains(m.Options, "ro") })
}

func depth(p string) int { return strings.Count(path.Clean(p), "/") }

// tmpfses are those of --tmpfs, unless they are among the resolved mounts.
func tmpfses(in Input) (out []Mount) {
	for dest, data := range in.Host.Tmpfs {
		dest = path.Clean(dest)
		if slices.ContainsFunc(in.Mounts, func(m Mount) bool { return path.Clean(m.Destination) == dest }) {
			continue
		}
		m := Mount{Type: "tmpfs", Destination: dest}
		if data != "" {
			m.Options = strings.Split(data, ",")
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Mount) int { return strings.Compare(a.Destination, b.Destination) })
	return out
}

// oci translates a mount of the user.
func (m Mount) oci(f Facts) (specs.Mount, error) {
	out := specs.Mount{Destination: path.Clean(m.Destination), Type: "bind", Source: m.Source}
	if m.Type == "tmpfs" {
		out.Type, out.Source = "tmpfs", "tmpfs"
		options, err := mergeTmpfs(m.Options)
		if m.ReadOnly && !slices.Contains(options, "ro") {
			options = append(options, "ro")
		}
		out.Options = options
		return out, err
	}
	if m.Type != "bind" {
		return out, errdefs.Invalidf("mount type unknown: %q", m.Type)
	}
	bind := "rbind"
	var more []string
	for _, o := range m.Options {
		switch {
		case o == "bind" || o == "rbind":
			bind = o
		case o == "ro", o == "rro":
			m.ReadOnly = true
			if o == "rro" && !f.RecursiveReadOnly {
				return out, errdefs.Invalidf("this kernel does not support recursively read-only mounts")
			}
			more = append(more, o)
		case !slices.Contains(more, o):
			more = append(more, o)
		}
	}
	out.Options = []string{bind}
	if m.ReadOnly && !slices.Contains(more, "ro") && !slices.Contains(more, "rro") {
		if f.RecursiveReadOnly && bind == "rbind" {
			out.Options = append(out.Options, "rro")
		} else {
			out.Options = append(out.Options, "ro")
		}
	}
	if m.Propagation != "" {
		if !strings.Contains(propagations, " "+m.Propagation+" ") {
			return out, errdefs.Invalidf("invalid propagation mode: %s", m.Propagation)
		}
		out.Options = append(out.Options, m.Propagation)
	}
	out.Options = append(out.Options, more...)
	return out, nil
}

const propagations = " private rprivate shared rshared slave rslave "

// rootPropagation raises the root's propagation to what a mount needs to
// receive or to share anything.
func rootPropagation(have, mount string) string {
	switch strings.TrimPrefix(mount, "r") {
	case "shared":
		return "shared"
	case "slave":
		if have == "" {
			return "rslave"
		}
	}
	return have
}

// mergeTmpfs combines a tmpfs's options with the defaults: of two that
// contradict each other, the later counts. Errors: Invalid for an option that
// a tmpfs does not have.
//
// Source: tmpfs(5).
func mergeTmpfs(options []string) ([]string, error) {
	opposite := map[string]string{
		"exec": "noexec", "noexec": "exec", "suid": "nosuid", "nosuid": "suid", "dev": "nodev", "nodev": "dev",
		"ro": "rw", "rw": "ro", "atime": "noatime", "noatime": "atime", "diratime": "nodiratime", "nodiratime": "diratime",
		"relatime": "norelatime", "norelatime": "relatime", "strictatime": "nostrictatime", "nostrictatime": "strictatime",
		"sync": "async", "async": "sync", "dirsync": "", "mand": "nomand", "nomand": "mand", "bind": "", "rbind": "", "defaults": "",
	}
	out := []string{"noexec", "nosuid", "nodev"}
	for _, o := range options {
		key, _, data := strings.Cut(o, "=")
		contrary, flag := opposite[o]
		switch {
		case o == "" || o == "defaults":
			continue
		case flag || strings.Contains(propagations, " "+o+" "):
		case data && slices.Contains([]string{"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge", "inode32", "inode64"}, key):
		default:
			return nil, errdefs.Invalidf("invalid tmpfs option [%q]", o)
		}
		out = slices.DeleteFunc(out, func(have string) bool {
			k, _, _ := strings.Cut(have, "=")
			return have == o || contrary != "" && have == contrary || data && k == key
		})
		out = append(out, o)
	}
	return out, nil
}
