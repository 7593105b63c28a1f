package idmap

import (
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/sys"
)

// most is how many lines the kernel takes (UID_GID_MAP_MAX_EXTENTS).
const most = 340

// Map translates between the ids of a user namespace and those of its parent.
type Map struct {
	UID []specs.LinuxIDMapping `json:"uid"`
	GID []specs.LinuxIDMapping `json:"gid"`
}

// Range maps size users and groups, from 0 on, to uid and gid and what follows.
func Range(uid, gid, size uint32) Map {
	return Map{
		UID: []specs.LinuxIDMapping{{HostID: uid, Size: size}},
		GID: []specs.LinuxIDMapping{{HostID: gid, Size: size}},
	}
}

// Empty reports whether the map translates nothing.
func (m Map) Empty() bool { return len(m.UID) == 0 && len(m.GID) == 0 }

// Equal reports whether both translate alike, line by line.
func (m Map) Equal(o Map) bool { return slices.Equal(m.UID, o.UID) && slices.Equal(m.GID, o.GID) }

// Check refuses what the kernel would refuse. Errors: Invalid.
func (m Map) Check() error {
	for _, list := range []struct {
		kind  string
		lines []specs.LinuxIDMapping
	}{{"uid", m.UID}, {"gid", m.GID}} {
		if len(list.lines) == 0 || len(list.lines) > most {
			return errdefs.Invalidf("%s mappings: %d of them, want 1 to %d", list.kind, len(list.lines), most)
		}
		for i, a := range list.lines {
			if a.Size == 0 || a.HostID > math.MaxUint32-a.Size || a.ContainerID > math.MaxUint32-a.Size {
				return errdefs.Invalidf("%s mapping %d:%d:%d is out of range", list.kind, a.ContainerID, a.HostID, a.Size)
			}
			for _, b := range list.lines[:i] {
				if overlap(a.HostID, b.HostID, a.Size, b.Size) || overlap(a.ContainerID, b.ContainerID, a.Size, b.Size) {
					return errdefs.Invalidf("%s mappings %d:%d:%d and %d:%d:%d overlap", list.kind,
						a.ContainerID, a.HostID, a.Size, b.ContainerID, b.HostID, b.Size)
				}
			}
		}
	}
	return nil
}

func overlap(a, b, na, nb uint32) bool {
	return uint64(a) < uint64(b)+uint64(nb) && uint64(b) < uint64(a)+uint64(na)
}

// Host returns the parent's ids of a user and a group of the namespace. ok is
// false when one of them has none.
func (m Map) Host(uid, gid uint32) (hostUID, hostGID uint32, ok bool) {
	hostUID, ok1 := up(m.UID, uid)
	hostGID, ok2 := up(m.GID, gid)
	return hostUID, hostGID, ok1 && ok2
}

func up(lines []specs.LinuxIDMapping, id uint32) (uint32, bool) {
	for _, l := range lines {
		if id >= l.ContainerID && id-l.ContainerID < l.Size {
			return l.HostID + (id - l.ContainerID), true
		}
	}
	return 0, false
}

// Inside returns the namespace's ids of a user and a group of its parent. What
// has none is Nobody, as the kernel shows it.
func (m Map) Inside(hostUID, hostGID uint32) (uid, gid uint32) {
	return down(m.UID, hostUID), down(m.GID, hostGID)
}

// Nobody stands for ids that have no counterpart in a user namespace.
//
// Source: /proc/sys/kernel/overflowuid, whose default it is.
const Nobody = 65534

func down(lines []specs.LinuxIDMapping, id uint32) uint32 {
	for _, l := range lines {
		if id >= l.HostID && id-l.HostID < l.Size {
			return l.ContainerID + (id - l.HostID)
		}
	}
	return Nobody
}

// Overlaps reports whether a user or a group of the parent is in both maps.
func (m Map) Overlaps(o Map) bool {
	return shares(m.UID, o.UID) || shares(m.GID, o.GID)
}

func shares(a, b []specs.LinuxIDMapping) bool {
	return slices.ContainsFunc(a, func(x specs.LinuxIDMapping) bool {
		return slices.ContainsFunc(b, func(y specs.LinuxIDMapping) bool { return overlap(x.HostID, y.HostID, x.Size, y.Size) })
	})
}

// text is what is written to /proc/PID/uid_map or gid_map.
func text(lines []specs.LinuxIDMapping) string {
	var b []byte
	for _, l := range lines {
		for i, n := range []uint32{l.ContainerID, l.HostID, l.Size} {
			b = strconv.AppendUint(b, uint64(n), 10)
			b = append(b, "  \n"[i])
		}
	}
	return string(b)
}

// Write gives the user namespace of process pid, which must have just been
// made, its map. It needs CAP_SETUID and CAP_SETGID in the parent namespace.
func (m Map) Write(pid int) error {
	dir := "/proc/" + strconv.Itoa(pid)
	if err := put(dir+"/uid_map", text(m.UID)); err != nil {
		return err
	}
	return put(dir+"/gid_map", text(m.GID))
}

// put writes in one call, which the kernel wants.
func put(path, s string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return sys.Error("open", path, err)
	}
	defer sys.CloseAll(fd)
	_, err = unix.Write(fd, []byte(s))
	return sys.Error("write", path, err)
}

// Of returns the map of process pid's user namespace, as the caller's
// namespace sees it.
func Of(pid int) (m Map, err error) {
	dir := "/proc/" + strconv.Itoa(pid)
	if m.UID, err = read(dir + "/uid_map"); err != nil {
		return m, err
	}
	m.GID, err = read(dir + "/gid_map")
	return m, err
}

func read(path string) (lines []specs.LinuxIDMapping, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		var n [3]uint32
		for i, s := range f {
			v, err := strconv.ParseUint(s, 10, 32)
			if err != nil {
				return nil, errdefs.Internalf("%s: %w", path, err)
			}
			n[i] = uint32(v)
		}
		lines = append(lines, specs.LinuxIDMapping{ContainerID: n[0], HostID: n[1], Size: n[2]})
	}
	return lines, nil
}

// Tree translates the files of a detached mount by the map of a user namespace,
// given by descriptor; with recursive also those of the mounts below it. What
// is stored as id 0 is then seen as the id that the namespace's root has in its
// parent, and the other way round. It can be done once for a mount.
//
// Errors: NotImplemented where the file system or the kernel cannot.
func Tree(tree int, user int, recursive bool) error {
	flags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	err := unix.MountSetattr(tree, "", flags, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(user)})
	switch err {
	case unix.EINVAL, unix.EOPNOTSUPP, unix.ENOSYS:
		var fs unix.Statfs_t
		_ = unix.Fstatfs(tree, &fs) // for the message only
		return errdefs.NotImplementedf("the file system (type 0x%x) or the kernel does not support id-mapped mounts: %w",
			fs.Type, sys.Error("mount_setattr", "MOUNT_ATTR_IDMAP", err))
	}
	return sys.Error("mount_setattr", "MOUNT_ATTR_IDMAP", err)
}
