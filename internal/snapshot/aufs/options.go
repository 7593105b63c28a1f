package aufs

import (
	"strings"

	"lade/internal/errdefs"
)

const (
	// maxBranches is how many branches a union has at most
	// (CONFIG_AUFS_BRANCH_MAX_127, the default).
	maxBranches = 127
	// page is how many bytes of options mount(2) takes, with a zero at the end.
	page = 4096
	// atOnce is how many branches one call adds; aufs's limit is about 80.
	atOnce = 64
)

// options are the options of a mount, and those of the remounts that complete
// it, in order.
type options struct {
	mount    string
	remounts []string
}

// union returns the options of a union of branches, top first. The top one is
// written to if writable is set; of the others, whiteouts count (ro+wh).
//
//	br:TOP=rw:NEXT=ro+wh:…,dio      append:NEXT=ro+wh,append:…
//
// dio lets files be opened for direct I/O, which databases do. xino is where
// aufs keeps a table of inode numbers: an unlinked file on a file system that is
// not itself a branch.
//
// Errors: Exhausted for too many branches, Invalid for a path that aufs's
// syntax cannot hold.
func union(branches []string, writable bool, xino string) (options, error) {
	if len(branches) > maxBranches {
		return options{}, errdefs.Exhaustedf("max depth exceeded")
	}
	for _, b := range append([]string{xino}, branches...) {
		if strings.ContainsAny(b, ",:=\\") {
			return options{}, errdefs.Invalidf("aufs cannot have a branch named %q", b)
		}
	}
	permission := func(i int) string {
		if i == 0 && writable {
			return "=rw"
		}
		return "=ro+wh"
	}
	suffix := ",dio,xino=" + xino
	var o options
	var line strings.Builder
	line.WriteString("br")
	n := 0
	for ; n < len(branches) && n < atOnce; n++ {
		next := ":" + branches[n] + permission(n)
		if line.Len()+len(next)+len(suffix) >= page {
			break
		}
		line.WriteString(next)
	}
	if n == 0 {
		return options{}, errdefs.Invalidf("aufs: the path of a branch is too long")
	}
	o.mount = line.String() + suffix
	for n < len(branches) {
		line.Reset()
		for i := 0; n < len(branches) && i < atOnce; i++ {
			next := "append:" + branches[n] + permission(n)
			if line.Len() > 0 {
				next = "," + next
			}
			if line.Len()+len(next) >= page {
				break
			}
			line.WriteString(next)
			n++
		}
		if line.Len() == 0 {
			return options{}, errdefs.Invalidf("aufs: the path of a branch is too long")
		}
		o.remounts = append(o.remounts, line.String())
	}
	return o, nil
}
