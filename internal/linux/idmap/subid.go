package idmap

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
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
