package snapshot

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// Candidate is a driver that Choose may choose.
type Candidate struct {
	Name string
	// Probe tells whether the driver works in its directory, which it makes if
	// it is missing. Errors: Unavailable with the reason why not.
	Probe func(dir string) error
}

// Release is what tells a distribution: its ID, and those that it says to be
// like, nearest first.
//
// Source: os-release(5).
type Release struct {
	ID   string
	Like []string
}

// ReadRelease reads a file in the form of /etc/os-release. A file that is
// missing or makes no sense gives a distribution that nobody knows.
func ReadRelease(path string) (r Release) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return r
	}
	for line := range strings.Lines(string(raw)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch v = strings.Trim(v, `"'`); k {
		case "ID":
			r.ID = v
		case "ID_LIKE":
			r.Like = strings.Fields(v)
		}
	}
	return r
}

// preferred are the drivers of a distribution, best first. Who is not named
// here gets the first of the distribution that it is like, or overlay2.
var preferred = map[string][]string{
	"ubuntu": {"overlay2"},
	"centos": {"overlay2"},
	"rhel":   {"overlay2"},
	"fedora": {"overlay2"},
	"debian": {"overlay2", "aufs", "devicemapper"},
}

// preference returns the drivers to try for a data root on a file system, best
// first: the distribution's first one; what is made for that file system; the
// others of the distribution; and vfs, which works everywhere.
func (r Release) preference(backing string) []string {
	list := []string{"overlay2"}
	for _, id := range append([]string{r.ID}, r.Like...) {
		if l := preferred[id]; l != nil {
			list = l
			break
		}
	}
	out := list[:1:1]
	if backing == "btrfs" || backing == "zfs" {
		out = append(out, backing)
	}
	return append(append(out, list[1:]...), "vfs")
}

// Choose chooses the driver for a data root when the user names none, and says
// why: the one that was used there before, else the first that works of those
// that fit the distribution and the file system. The drivers' directories are
// <root>/<name>.
//
// Errors: Invalid if several were used before, Unavailable if none works.
func Choose(root string, r Release, candidates []Candidate) (name, reason string, err error) {
	var used []string
	for _, c := range candidates {
		if Used(filepath.Join(root, c.Name)) {
			used = append(used, c.Name)
		}
	}
	switch len(used) {
	case 0:
	case 1:
		return used[0], "it was used in " + root + " before", nil
	default:
		return "", "", errdefs.Invalidf("%s contains several valid graphdrivers: %s; cleanup or explicitly choose storage driver (-s <DRIVER>)", root, strings.Join(used, ", "))
	}
	backing, err := backingOf(root)
	if err != nil {
		return "", "", err
	}
	var against []string
	for _, n := range r.preference(backing) {
		i := slices.IndexFunc(candidates, func(c Candidate) bool { return c.Name == n })
		if i < 0 {
			continue
		}
		dir := filepath.Join(root, n)
		if err := candidates[i].Probe(dir); err != nil {
			_ = os.Remove(dir) // of an empty one that the probe made
			against = append(against, n+": "+err.Error())
			continue
		}
		reason = "it works on " + backing
		if r.ID != "" {
			reason = "first of " + r.ID + " that works on " + backing
		}
		if len(against) > 0 {
			reason += " (" + strings.Join(against, "; ") + ")"
		}
		return n, reason, nil
	}
	return "", "", errdefs.Unavailablef("no storage driver works in %s: %s", root, strings.Join(against, "; "))
}

// Used reports whether a driver's directory holds snapshots.
func Used(dir string) bool {
	records, err := os.ReadDir(filepath.Join(dir, "keys"))
	return err == nil && slices.ContainsFunc(records, func(e os.DirEntry) bool { return !strings.HasPrefix(e.Name(), ".") })
}

// backingOf returns the name of the file system that a directory is on, which
// is made if it is missing.
func backingOf(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", os.NewSyscallError("statfs", err)
	}
	return FileSystem(st.Type), nil
}
