package snapshottest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/snapshot"
)

// loose prepares a snapshot that has no parent yet, and writes to it as an
// unpacker does.
func loose(t testing.TB, d snapshot.Snapshotter, key string, write func(dir string)) {
	t.Helper()
	_, err := d.Prepare(t.Context(), key, "")
	ok(t, err)
	dir, err := d.Dir(t.Context(), key)
	ok(t, err)
	write(dir)
}

// rebase checks snapshots that learn their parent when they are committed; a
// driver that cannot do that must say so and change nothing.
func (s suite) rebase(t *testing.T) {
	root := t.TempDir()
	d, err := s.open(root)
	ok(t, err)
	ctx := t.Context()
	if !d.Rebases() {
		layer(t, d, "one", "", nil)
		loose(t, d, "box", func(dir string) { write(t, dir, "f", "1") })
		err := d.CommitOn(ctx, "two", "box", snapshot.Base{Parent: "one"})
		if errdefs.KindOf(err) != errdefs.NotImplemented {
			t.Errorf("%v", err)
		}
		expectKeys(t, d, "box one")
		ok(t, d.Commit(ctx, "two", "box"))
		ok(t, d.Close())
		return
	}
	// Upper layers are written before the lower ones.
	loose(t, d, "three-active", func(dir string) { write(t, dir, "c", "3") })
	loose(t, d, "two-active", func(dir string) {
		write(t, dir, "b", "2")
		ok(t, unix.Mknod(filepath.Join(dir, "a"), unix.S_IFCHR, 0)) // a whiteout
		ok(t, unix.Chmod(dir, 0o700))
	})
	layer(t, d, "one", "", func(dir string) {
		write(t, dir, "a", "1")
		ok(t, os.Chown(dir, 12, 34))
		ok(t, unix.Chmod(dir, 0o1751))
	})
	ok(t, d.CommitOn(ctx, "two", "two-active", snapshot.Base{Parent: "one", OwnTop: true}))
	ok(t, d.CommitOn(ctx, "three", "three-active", snapshot.Base{Parent: "two"}))
	expectKeys(t, d, "one three two")
	expect(t, view(t, d, "three"), "b=2 c=3")
	expectTop(t, d, "two", "0:0 700")
	expectTop(t, d, "three", "0:0 700")
	loose(t, d, "four-active", func(string) {})
	ok(t, d.CommitOn(ctx, "four", "four-active", snapshot.Base{Parent: "one"}))
	expectTop(t, d, "four", "12:34 1751")

	// What the new parent holds up, and what is refused.
	_, err = d.Prepare(ctx, "standing", "one")
	ok(t, err)
	loose(t, d, "box", func(dir string) { write(t, dir, "f", "1") })
	for _, tc := range []struct {
		what           string
		want           errdefs.Kind
		key, active, p string
	}{
		{"parent missing", errdefs.NotFound, "x", "box", "nope"},
		{"no parent", errdefs.NotFound, "x", "box", ""},
		{"parent active", errdefs.Conflict, "x", "box", "standing"},
		{"itself", errdefs.Conflict, "x", "box", "box"},
		{"has a parent", errdefs.Conflict, "x", "standing", "two"},
		{"key taken", errdefs.Conflict, "two", "box", "one"},
		{"committed", errdefs.Conflict, "x", "two", "one"},
		{"active missing", errdefs.NotFound, "x", "nope", "one"},
	} {
		err := d.CommitOn(ctx, tc.key, tc.active, snapshot.Base{Parent: tc.p})
		if err == nil || errdefs.KindOf(err) != tc.want {
			t.Errorf("%s: %v (%v), want %v", tc.what, err, errdefs.KindOf(err), tc.want)
		}
	}
	if err := d.Remove(ctx, "two"); errdefs.KindOf(err) != errdefs.Conflict {
		t.Errorf("remove a parent: %v", err)
	}
	ok(t, d.Remove(ctx, "three"))
	ok(t, d.Remove(ctx, "two")) // what was refused above does not stand on it
	ok(t, d.Close())

	d = s.reopened(t, root)
	expectKeys(t, d, "box four one standing")
	if i, err := d.Stat(ctx, "four"); err != nil || i.Parent != "one" || i.Kind != snapshot.Committed {
		t.Errorf("%+v, %v", i, err)
	}
}

func expectTop(t testing.TB, d snapshot.Snapshotter, key, want string) {
	t.Helper()
	r, err := d.Root(t.Context(), key)
	ok(t, err)
	var st unix.Stat_t
	ok(t, unix.Stat(mount(t, r), &st))
	if got := fmt.Sprintf("%d:%d %o", st.Uid, st.Gid, st.Mode&0o7777); got != want {
		t.Errorf("top directory of %s: %s, want %s", key, got, want)
	}
}

// rebaseRace lets CommitOn compete with the removal of the parent: one wins,
// and nothing stands on what is not there.
func (s suite) rebaseRace(t *testing.T) {
	d, _ := s.driver(t)
	if !d.Rebases() {
		return
	}
	ctx := t.Context()
	for n := range 40 {
		key, box := fmt.Sprintf("base-%d", n), fmt.Sprintf("box-%d", n)
		layer(t, d, key, "", nil)
		loose(t, d, box, func(string) {})
		var cerr, rerr error
		var wg sync.WaitGroup
		wg.Go(func() { cerr = d.CommitOn(ctx, "on-"+key, box, snapshot.Base{Parent: key}) })
		wg.Go(func() { rerr = d.Remove(ctx, key) })
		wg.Wait()
		if (cerr == nil) == (rerr == nil) {
			t.Errorf("commit: %v, remove: %v", cerr, rerr)
		}
	}
	for _, k := range keys(t, d) {
		if strings.HasPrefix(k, "on-") {
			expect(t, view(t, d, k), "")
		}
	}
}
