package conformance

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/need"
)

// sweepEngines ends what engines that tests have started leave behind when they
// fail, or count on containers to end with their daemon: what is in their control
// groups, and who has a directory of theirs among its arguments.
func sweepEngines(t *testing.T, group, dir string) {
	t.Helper()
	end := func(pid string) {
		if n, err := strconv.Atoi(pid); err == nil && n > 1 && n != os.Getpid() {
			_ = unix.Kill(n, unix.SIGKILL) // it may have ended
		}
	}
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, l := range lines {
		if raw, err := os.ReadFile(l); err == nil && bytes.Contains(raw, []byte(dir)) {
			end(filepath.Base(filepath.Dir(l)))
		}
	}
	roots, _ := filepath.Glob("/sys/fs/cgroup/*/" + group)
	for _, root := range append(roots, "/sys/fs/cgroup/"+group) {
		var groups []string
		_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				groups = append(groups, path)
			}
			return nil
		})
		for _, g := range groups {
			raw, _ := os.ReadFile(filepath.Join(g, "cgroup.procs"))
			for pid := range strings.FieldsSeq(string(raw)) {
				end(pid)
			}
		}
		for _, g := range slices.Backward(groups) { // the innermost first
			need.Eventually(t, "no processes in "+g, func() bool {
				err := os.Remove(g)
				return err == nil || errors.Is(err, fs.ErrNotExist)
			})
		}
	}
}
