package lxc

import (
	"os"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/linux/rootpath"
	"lade/internal/linux/sys"
)

// resolve follows the symbolic links in the destinations of mounts, inside the
// root, and makes what is not there, and the working directory: LXC refuses any
// link. What is below another mount is left to LXC.
func resolve(root int, s *specs.Spec) ([]specs.Mount, error) {
	below := func(p string) bool {
		return slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool {
			return strings.HasPrefix(p+"/", strings.TrimSuffix(m.Destination, "/")+"/") && p != m.Destination
		})
	}
	out := slices.Clone(s.Mounts)
	for i := range out {
		m := &out[i]
		if below(m.Destination) {
			continue
		}
		st, err := os.Stat(m.Source)
		file := m.Type == "bind" && err == nil && !st.IsDir()
		if err := rootpath.MakeAll(root, m.Destination, file); err != nil {
			return nil, err
		}
		fd, err := rootpath.Open(root, m.Destination, unix.O_PATH, 0)
		if err != nil {
			return nil, err
		}
		// The root is mounted nowhere: paths begin at it.
		m.Destination, err = os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		sys.CloseAll(fd)
		if err != nil {
			return nil, err
		}
	}
	if cwd := s.Process.Cwd; !below(cwd) {
		return out, rootpath.MakeAll(root, cwd, false)
	}
	return out, nil
}
