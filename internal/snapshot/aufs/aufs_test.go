package aufs

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"lade/internal/errdefs"
	"lade/internal/need"
	"lade/internal/snapshot"
	"lade/internal/snapshot/snapshottest"
)

func open(root string) (snapshot.Snapshotter, error) { return New(root, slog.New(slog.DiscardHandler)) }

// TestConformance runs where a kernel has aufs; where none has, the driver
// must say so.
func TestConformance(t *testing.T) {
	need.Root(t)
	if err := Probe(t.TempDir()); err != nil {
		if errdefs.KindOf(err) != errdefs.Unavailable || !strings.Contains(err.Error(), "aufs") {
			t.Errorf("%v", err)
		}
		if _, err := open(t.TempDir()); errdefs.KindOf(err) != errdefs.Unavailable {
			t.Errorf("%v", err)
		}
		t.Skipf("%v", err)
	}
	snapshottest.Run(t, open)
}

// TestUnion checks options against the syntax of aufs(5).
func TestUnion(t *testing.T) {
	o, err := union([]string{"/a", "/b", "/c"}, true, "/x")
	if err != nil || o.mount != "br:/a=rw:/b=ro+wh:/c=ro+wh,dio,xino=/x" || o.remounts != nil {
		t.Errorf("%+v, %v", o, err)
	}
	o, err = union([]string{"/a", "/b"}, false, "/x")
	if err != nil || o.mount != "br:/a=ro+wh:/b=ro+wh,dio,xino=/x" {
		t.Errorf("%+v, %v", o, err)
	}
	for _, bad := range []string{"/a,b", "/a:b", "/a=b", `/a\b`} {
		if _, err := union([]string{"/ok", bad}, true, "/x"); errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("%s: %v", bad, err)
		}
	}
	for _, length := range []int{10, 200, 1000, 4000} {
		checkLong(t, length)
	}
	if _, err := union([]string{strings.Repeat("x", 5000)}, true, "/x"); errdefs.KindOf(err) != errdefs.Invalid {
		t.Errorf("a long path: %v", err)
	}
	if _, err := union(paths(128, 10), true, "/x"); errdefs.KindOf(err) != errdefs.Exhausted {
		t.Errorf("128 branches: %v", err)
	}
}

// paths returns n paths of a length.
func paths(n, length int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("/%0*d", length-1, i))
	}
	return all
}

// checkLong checks that every branch of a deep union is named once, in order,
// and no call has more than mount(2) or aufs takes.
func checkLong(t *testing.T, length int) {
	t.Helper()
	want := paths(127, length)
	o, err := union(want, true, "/x")
	if err != nil {
		t.Fatal(err)
	}
	branches, _, _ := strings.Cut(strings.TrimPrefix(o.mount, "br:"), ",")
	got := strings.Split(branches, ":")
	calls := append([]string{o.mount}, o.remounts...)
	for _, r := range o.remounts {
		for a := range strings.SplitSeq(r, ",") {
			got = append(got, strings.TrimPrefix(a, "append:"))
		}
	}
	for i, g := range got {
		permission := "=ro+wh"
		if i == 0 {
			permission = "=rw"
		}
		if i >= len(want) || g != want[i]+permission {
			t.Fatalf("branch %d is %q", i, g)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d of %d branches", len(got), len(want))
	}
	for _, c := range calls {
		if len(c) >= page || strings.Count(c, "=r") > atOnce {
			t.Errorf("a call of %d bytes, %d branches", len(c), strings.Count(c, "=r"))
		}
	}
}
