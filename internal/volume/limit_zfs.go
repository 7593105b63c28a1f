package volume

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"lade/internal/errdefs"
	"lade/internal/linux/quota"
	"lade/internal/trace"
)

// zfsMagic is what statfs(2) says of ZFS (ZFS_SUPER_MAGIC of OpenZFS).
const zfsMagic = 0x2fc12fc1

// firstProject is the smallest number of a project that is ours, as in package
// quota.
const firstProject = 1 << 30

// boundZFS limits a directory on ZFS by a project of its own (OpenZFS 0.8). The
// quota is enforced some seconds late, as all of ZFS are. Errors: Unavailable
// where the programs or the feature are missing.
//
// Source: zfs-project(8), zfsprops(7), "projectquota@project".
func boundZFS(dir string, bytes int64) error {
	dataset, err := zfs("list", "-H", "-o", "name", dir)
	if err != nil {
		return err
	}
	for {
		id := strconv.Itoa(firstProject + rand.IntN(firstProject))
		property := "projectquota@" + id
		taken, err := zfs("get", "-Hp", "-o", "value", property, dataset)
		if err != nil {
			return err
		}
		if taken != "none" && taken != "0" && taken != "-" {
			continue // somebody else's
		}
		if _, err := zfs("set", fmt.Sprintf("%s=%d", property, bytes), dataset); err != nil {
			return err
		}
		_, err = zfs("project", "-s", "-p", id, dir)
		return err
	}
}

// releaseZFS lifts the limit of a directory on ZFS, if it has one.
func releaseZFS(dir string) error {
	id, err := quota.Project(dir)
	if err != nil || id == 0 {
		return err
	}
	dataset, err := zfs("list", "-H", "-o", "name", dir)
	if err != nil {
		return err
	}
	_, err = zfs("set", fmt.Sprintf("projectquota@%d=none", id), dataset)
	return err
}

// zfs runs zfs(8) and returns what it prints. Errors: Unavailable.
func zfs(args ...string) (string, error) {
	cmd := exec.Command("zfs", args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var complaint strings.Builder
	cmd.Stderr = &complaint
	sp := trace.Begin(trace.File, "zfs", strings.Join(args, " "))
	out, err := cmd.Output()
	if sp.End(err) != nil {
		return "", errdefs.Unavailablef("zfs %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return strings.TrimSpace(string(out)), nil
}
