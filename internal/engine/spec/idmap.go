package spec

import (
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/linux/idmap"
)

// IDMapPrefix begins the annotations that translate the files of a bind, by its
// place in the container: "lade.idmap./data". The value is what follows "idmap=".
// They are what idmap of --mount becomes with lade's client.
const IDMapPrefix = "lade.idmap."

// MountMap is a map of a bind's files that is not the container's own.
type MountMap struct{ uids, gids []mountLine }

// mountLine says which ids of the file system are seen as which others: the
// host's, or, with inside, the container's.
type mountLine struct {
	stored, seen, size uint32
	inside             bool
}

// IsIDMap reports whether an option of a mount is about ids, and returns its
// map's text; "ridmap" is for what is mounted below as well.
func IsIDMap(option string) (text string, recursive, ok bool) {
	name, text, _ := strings.Cut(option, "=")
	return text, name == "ridmap", name == "idmap" || name == "ridmap"
}

// ParseMountMap reads "uids=STORED-SEEN-SIZE[#…][;gids=…]", as Podman has it: what
// is stored with the ids from STORED on is seen as the host's ids from SEEN on, or
// with an @ before as the container's. "" and "true" are the container's own map,
// and make an empty one. Errors: Invalid.
func ParseMountMap(s string) (m MountMap, err error) {
	if s == "" || s == "true" {
		return m, nil
	}
	bad := errdefs.Invalidf("invalid idmap %q: want uids=STORED-SEEN-SIZE[#…][;gids=…], with @SEEN for ids of the container", s)
	for part := range strings.SplitSeq(s, ";") {
		kind, list, ok := strings.Cut(part, "=")
		to := &m.uids
		if kind == "gids" {
			to = &m.gids
		}
		if !ok || kind != "uids" && kind != "gids" || *to != nil {
			return m, bad
		}
		for text := range strings.SplitSeq(list, "#") {
			l, ok := parseMountLine(text)
			if !ok {
				return m, bad
			}
			*to = append(*to, l)
		}
	}
	return m, nil
}

func parseMountLine(s string) (l mountLine, ok bool) {
	f := strings.Split(s, "-")
	if len(f) != 3 {
		return l, false
	}
	f[1], l.inside = strings.CutPrefix(f[1], "@")
	for i, to := range []*uint32{&l.stored, &l.seen, &l.size} {
		n, err := strconv.ParseUint(f[i], 10, 32)
		if err != nil {
			return l, false
		}
		*to = uint32(n)
	}
	return l, l.size > 0
}

// Empty reports whether it is the container's own map.
func (m MountMap) Empty() bool { return m.uids == nil && m.gids == nil }

// For is the map for a mount of a container with a user namespace, or, with an
// empty one, of one that has the host's ids. Users or groups of which nothing is
// said are as the container's. Errors: Invalid, also for ids that the container
// does not have.
func (m MountMap) For(user idmap.Map) (out idmap.Map, err error) {
	if user.Empty() {
		all := []specs.LinuxIDMapping{{Size: 1<<32 - 1}} // every id but the invalid one
		user = idmap.Map{UID: all, GID: all}
	}
	if out.UID, err = seenBy(m.uids, user.UID); err != nil {
		return out, err
	}
	if out.GID, err = seenBy(m.gids, user.GID); err != nil {
		return out, err
	}
	return out, out.Check()
}

// seenBy translates the lines that are about ids of the container.
func seenBy(lines []mountLine, user []specs.LinuxIDMapping) (out []specs.LinuxIDMapping, err error) {
	if lines == nil {
		return user, nil
	}
	for _, l := range lines {
		if !l.inside {
			out = append(out, specs.LinuxIDMapping{ContainerID: l.stored, HostID: l.seen, Size: l.size})
			continue
		}
		// A range may be in several lines of the container's map.
		for l.size > 0 {
			i := slices.IndexFunc(user, func(u specs.LinuxIDMapping) bool { return l.seen >= u.ContainerID && l.seen-u.ContainerID < u.Size })
			if i < 0 {
				return nil, errdefs.Invalidf("invalid idmap: the id %d is not mapped in the container's user namespace", l.seen)
			}
			at := l.seen - user[i].ContainerID
			n := min(l.size, user[i].Size-at)
			out = append(out, specs.LinuxIDMapping{ContainerID: l.stored, HostID: user[i].HostID + at, Size: n})
			l.stored, l.seen, l.size = l.stored+n, l.seen+n, l.size-n
		}
	}
	return out, nil
}

// translate gives a mount of the specification the map that its options name.
func translate(m *specs.Mount, user idmap.Map) error {
	for i, o := range m.Options {
		text, recursive, ok := IsIDMap(o)
		if !ok {
			continue
		}
		mm, err := ParseMountMap(text)
		if err != nil {
			return err
		}
		m.Options[i] = "idmap"
		if recursive {
			m.Options[i] = "ridmap"
		}
		if mm.Empty() {
			continue
		}
		ids, err := mm.For(user)
		if err != nil {
			return err
		}
		m.UIDMappings, m.GIDMappings = ids.UID, ids.GID
	}
	return nil
}
