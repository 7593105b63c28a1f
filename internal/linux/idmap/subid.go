package idmap

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/sys"
)

// The files that say which ids are whose.
const (
	SubUID = "/etc/subuid"
	SubGID = "/etc/subgid"
)

// Subordinate returns the ids that a file such as SubUID gives to an owner, who
// may stand there under any of the names; without names those of everybody.
// They are mapped from 0 on, one line after the other. A file that is not there
// gives nothing. Errors: Invalid for a malformed line.
//
// Source: subuid(5).
func Subordinate(file string, names ...string) ([]specs.LinuxIDMapping, error) {
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []specs.LinuxIDMapping
	inside := uint32(0)
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, ":")
		if len(f) != 3 {
			return nil, errdefs.Invalidf("%s: malformed line %q", file, line)
		}
		first, err1 := strconv.ParseUint(f[1], 10, 32)
		size, err2 := strconv.ParseUint(f[2], 10, 32)
		if err1 != nil || err2 != nil {
			return nil, errdefs.Invalidf("%s: malformed line %q", file, line)
		}
		for _, n := range names {
			if n == f[0] {
				out = append(out, specs.LinuxIDMapping{ContainerID: inside, HostID: uint32(first), Size: uint32(size)})
				inside += uint32(size)
				break
			}
		}
		if len(names) == 0 {
			out = append(out, specs.LinuxIDMapping{ContainerID: inside, HostID: uint32(first), Size: uint32(size)})
			inside += uint32(size)
		}
	}
	return out, nil
}

// Given are the ids that SubUID and SubGID give to everybody. A file is read again
// when it has changed: to ask takes a hundredth of the time. Its zero value has read
// nothing. It is for one goroutine at a time.
type Given struct{ uid, gid given }

// IDs returns them; the caller must not change the lists. Errors: as Subordinate.
func (g *Given) IDs() (m Map, err error) {
	if m.UID, err = g.uid.lines(SubUID); err != nil {
		return Map{}, err
	}
	m.GID, err = g.gid.lines(SubGID)
	return m, err
}

// given is what was read of one file, and which file that was.
type given struct {
	read bool
	file version
	ids  []specs.LinuxIDMapping
}

// version is a file's contents, as far as stat(2) can tell; its zero value is no file.
type version struct {
	dev, ino         uint64
	size             int64
	changed, written unix.Timespec
}

func versionOf(path string) (version, error) {
	var st unix.Stat_t
	switch err := unix.Stat(path, &st); err {
	case nil:
		return version{st.Dev, st.Ino, st.Size, st.Ctim, st.Mtim}, nil
	case unix.ENOENT:
		return version{}, nil
	default:
		return version{}, sys.Error("stat", path, err)
	}
}

func (g *given) lines(path string) ([]specs.LinuxIDMapping, error) {
	now, err := versionOf(path)
	if err != nil || g.read && now == g.file {
		return g.ids, err
	}
	ids, err := Subordinate(path)
	if err != nil {
		return nil, err
	}
	*g = given{true, now, ids}
	return ids, nil
}
