package snapshottest

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/overlay"
	"lade/internal/linux/sys"
	"lade/internal/snapshot"
)

// Factory opens a driver with its data in root. It is called again for the
// same root after the driver was closed, or its process killed.
type Factory func(root string) (snapshot.Snapshotter, error)

// victim is the variable that tells the test binary to be the process which
// TestConformance/Kill kills; it holds the root.
const victim = "LADE_TEST_SNAPSHOT_VICTIM"

// Victim reports whether the test binary is a process that the suite made to
// kill it: a test that calls Run then prepares nothing of its own.
func Victim() bool { return os.Getenv(victim) != "" }

// Run runs the suite. It must be called from a top-level test.
func Run(t *testing.T, open Factory) {
	if root := os.Getenv(victim); root != "" {
		beVictim(t, open, root)
		return
	}
	s := suite{open}
	for name, f := range map[string]func(*testing.T){
		"Stack": s.stack, "Whiteouts": s.whiteouts, "Attributes": s.attributes, "Errors": s.errors, "Records": s.records,
		"Usage": s.usage, "Reopen": s.reopen, "Deep": s.deep, "Concurrent": s.concurrent, "Remount": s.remount,
		"Empty": s.empty, "Trees": s.trees, "Kinds": s.kinds, "Rebase": s.rebase, "RebaseRace": s.rebaseRace,
	} {
		t.Run(name, f)
	}
	name, _, _ := strings.Cut(t.Name(), "/")
	t.Run("Kill", func(t *testing.T) { s.kill(t, name) })
}

type suite struct{ open Factory }

// driver opens a driver in a directory of its own.
func (s suite) driver(t *testing.T) (d snapshot.Snapshotter, root string) {
	t.Helper()
	root = t.TempDir()
	d = s.reopened(t, root)
	return d, root
}

// reopened opens a driver and closes it at the end of the test.
func (s suite) reopened(t *testing.T, root string) snapshot.Snapshotter {
	t.Helper()
	d, err := s.open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mount mounts a snapshot and returns a path of it.
func mount(t testing.TB, r snapshot.Root) string {
	t.Helper()
	if r.Path != "" {
		if len(r.Lower) > 0 || r.Upper != "" {
			t.Fatalf("%+v is both a directory and an overlay", r)
		}
		return r.Path
	}
	if len(r.Lower) == 1 && r.Upper == "" {
		t.Fatal("an overlay of one directory")
	}
	fd, err := overlay.Mount(overlay.Options{Lower: r.Lower, Upper: r.Upper, Work: r.Work, Volatile: r.Upper != ""}, sys.Probe())
	ok(t, err)
	f := os.NewFile(uintptr(fd), "mount")
	t.Cleanup(func() { f.Close() })
	return "/proc/self/fd/" + strconv.Itoa(fd) + "/"
}

func write(t testing.TB, dir, name, content string) {
	t.Helper()
	ok(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
}

// files returns what a directory holds: names with the content of files.
func files(t testing.TB, dir string) string {
	t.Helper()
	m := map[string]string{}
	ok(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		m[rel] = d.Type().String()
		if d.Type().IsRegular() {
			var b []byte
			b, err = os.ReadFile(p)
			m[rel] = string(b)
		} else if d.IsDir() {
			m[rel] = "/"
		}
		return err
	}))
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, " ")
}

func expect(t testing.TB, dir, want string) {
	t.Helper()
	if got := files(t, dir); got != want {
		t.Errorf("holds %q, want %q", got, want)
	}
}

// layer commits a snapshot that change made of its parent.
func layer(t testing.TB, d snapshot.Snapshotter, key, parent string, change func(dir string)) {
	t.Helper()
	root, err := d.Prepare(t.Context(), key+"-active", parent)
	ok(t, err)
	if change != nil {
		change(mount(t, root))
	}
	ok(t, d.Commit(t.Context(), key, key+"-active"))
}

// view mounts a snapshot that exists.
func view(t testing.TB, d snapshot.Snapshotter, key string) string {
	t.Helper()
	r, err := d.Root(t.Context(), key)
	ok(t, err)
	return mount(t, r)
}

// stack checks that a snapshot shows its parents and keeps its changes.
func (s suite) stack(t *testing.T) {
	d, _ := s.driver(t)
	layer(t, d, "one", "", func(dir string) { write(t, dir, "a", "1"); write(t, dir, "b", "1") })
	layer(t, d, "two", "one", func(dir string) { write(t, dir, "b", "2"); write(t, dir, "c", "2") })
	r, err := d.Prepare(t.Context(), "box", "two")
	ok(t, err)
	box := mount(t, r)
	expect(t, box, "a=1 b=2 c=2")
	write(t, box, "a", "3")
	other, err := d.Prepare(t.Context(), "other", "two")
	ok(t, err)
	expect(t, mount(t, other), "a=1 b=2 c=2")
	expect(t, box, "a=3 b=2 c=2")
	expect(t, view(t, d, "one"), "a=1 b=1")
	expect(t, view(t, d, "two"), "a=1 b=2 c=2")
}

// whiteouts checks that what a layer deletes stays deleted above it, and that
// a directory which was deleted and made again is empty.
func (s suite) whiteouts(t *testing.T) {
	d, _ := s.driver(t)
	layer(t, d, "one", "", func(dir string) {
		ok(t, os.MkdirAll(filepath.Join(dir, "d/sub"), 0o755))
		ok(t, os.MkdirAll(filepath.Join(dir, "e"), 0o755))
		write(t, dir, "d/sub/x", "1")
		write(t, dir, "e/x", "1")
		write(t, dir, "f", "1")
	})
	layer(t, d, "two", "one", func(dir string) {
		ok(t, os.Remove(filepath.Join(dir, "f")))
		ok(t, os.RemoveAll(filepath.Join(dir, "d")))
		ok(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
		ok(t, os.RemoveAll(filepath.Join(dir, "e")))
	})
	expect(t, view(t, d, "two"), "d=/")
	layer(t, d, "three", "two", func(dir string) { write(t, dir, "f", "back") })
	expect(t, view(t, d, "three"), "d=/ f=back")
	expect(t, view(t, d, "one"), "d=/ d/sub=/ d/sub/x=1 e=/ e/x=1 f=1")
}

// attributes checks that the top directory keeps what an image gave it.
func (s suite) attributes(t *testing.T) {
	d, _ := s.driver(t)
	layer(t, d, "one", "", func(dir string) {
		ok(t, os.Chown(dir, 12, 34))
		ok(t, unix.Chmod(dir, 0o1751))
	})
	layer(t, d, "two", "one", nil)
	r, err := d.Prepare(t.Context(), "box", "two")
	ok(t, err)
	var st unix.Stat_t
	ok(t, unix.Stat(mount(t, r), &st))
	if st.Uid != 12 || st.Gid != 34 || st.Mode&0o7777 != 0o1751 {
		t.Errorf("top directory: %d:%d %o", st.Uid, st.Gid, st.Mode)
	}
}

func (s suite) errors(t *testing.T) {
	d, _ := s.driver(t)
	ctx := t.Context()
	layer(t, d, "base", "", nil)
	_, err := d.Prepare(ctx, "box", "base")
	ok(t, err)
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	for _, tc := range []struct {
		what string
		want errdefs.Kind
		f    func() error
	}{
		{"prepare: parent missing", errdefs.NotFound, func() error { _, err := d.Prepare(ctx, "x", "nope"); return err }},
		{"prepare: parent active", errdefs.Conflict, func() error { _, err := d.Prepare(ctx, "x", "box"); return err }},
		{"prepare: key of an active one", errdefs.Conflict, func() error { _, err := d.Prepare(ctx, "box", ""); return err }},
		{"prepare: key of a committed one", errdefs.Conflict, func() error { _, err := d.Prepare(ctx, "base", ""); return err }},
		{"prepare: key climbs", errdefs.Invalid, func() error { _, err := d.Prepare(ctx, "../x", ""); return err }},
		{"prepare: no key", errdefs.Invalid, func() error { _, err := d.Prepare(ctx, "", ""); return err }},
		{"prepare: canceled", errdefs.Canceled, func() error { _, err := d.Prepare(canceled, "x", "base"); return err }},
		{"commit: active missing", errdefs.NotFound, func() error { return d.Commit(ctx, "x", "nope") }},
		{"commit: of a committed one", errdefs.Conflict, func() error { return d.Commit(ctx, "x", "base") }},
		{"commit: key taken", errdefs.Conflict, func() error { return d.Commit(ctx, "base", "box") }},
		{"commit: bad key", errdefs.Invalid, func() error { return d.Commit(ctx, "a/b", "box") }},
		{"commit: canceled", errdefs.Canceled, func() error { return d.Commit(canceled, "x", "box") }},
		{"root", errdefs.NotFound, func() error { _, err := d.Root(ctx, "nope"); return err }},
		{"dir", errdefs.NotFound, func() error { _, err := d.Dir(ctx, "nope"); return err }},
		{"stat", errdefs.NotFound, func() error { _, err := d.Stat(ctx, "nope"); return err }},
		{"usage", errdefs.NotFound, func() error { _, err := d.Usage(ctx, "nope"); return err }},
		{"remove", errdefs.NotFound, func() error { return d.Remove(ctx, "nope") }},
		{"remove: has children", errdefs.Conflict, func() error { return d.Remove(ctx, "base") }},
	} {
		if err := tc.f(); errdefs.KindOf(err) != tc.want || err == nil {
			t.Errorf("%s: %v (%v), want %v", tc.what, err, errdefs.KindOf(err), tc.want)
		}
	}
	expectKeys(t, d, "base box")
	ok(t, d.Remove(ctx, "box"))
	ok(t, d.Remove(ctx, "base"))
	expectKeys(t, d, "")
}

// keys returns the keys of all snapshots.
func keys(t testing.TB, d snapshot.Snapshotter) []string {
	t.Helper()
	var out []string
	for i, err := range d.Walk(t.Context()) {
		ok(t, err)
		out = append(out, i.Key)
	}
	slices.Sort(out)
	return out
}

func expectKeys(t testing.TB, d snapshot.Snapshotter, want string) {
	t.Helper()
	if got := strings.Join(keys(t, d), " "); got != want {
		t.Errorf("snapshots %q, want %q", got, want)
	}
}

// records checks what Stat and Walk say.
func (s suite) records(t *testing.T) {
	d, _ := s.driver(t)
	begin := time.Now().Add(-2 * time.Second) // files have a coarse clock
	layer(t, d, "base", "", nil)
	_, err := d.Prepare(t.Context(), "box", "base")
	ok(t, err)
	got := map[string]snapshot.Info{}
	for i, err := range d.Walk(t.Context()) {
		ok(t, err)
		st, err := d.Stat(t.Context(), i.Key)
		ok(t, err)
		if st != i {
			t.Errorf("Stat says %+v, Walk %+v", st, i)
		}
		if i.Created.Before(begin) || i.Created.After(time.Now().Add(time.Second)) {
			t.Errorf("created at %v", i.Created)
		}
		i.Created = time.Time{}
		got[i.Key] = i
	}
	want := map[string]snapshot.Info{
		"base": {Key: "base", Kind: snapshot.Committed},
		"box":  {Key: "box", Parent: "base", Kind: snapshot.Active},
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for range d.Walk(t.Context()) {
		break // must not block or panic
	}
	if d.Name() == "" || len(d.Status()) == 0 {
		t.Error("no name or status")
	}
}

func (s suite) usage(t *testing.T) {
	d, _ := s.driver(t)
	layer(t, d, "base", "", nil)
	empty, err := d.Usage(t.Context(), "base")
	ok(t, err)
	r, err := d.Prepare(t.Context(), "box", "base")
	ok(t, err)
	dir := mount(t, r)
	write(t, dir, "f", strings.Repeat("x", 1<<20))
	ok(t, os.Link(filepath.Join(dir, "f"), filepath.Join(dir, "g")))
	unix.Sync() // with delayed allocation blocks are counted when they are written
	u, err := d.Usage(t.Context(), "box")
	ok(t, err)
	if u.Inodes != empty.Inodes+1 || u.Bytes < 1<<20 || u.Bytes > 1<<20+64<<10 {
		t.Errorf("usage %+v, empty %+v", u, empty)
	}
}

// reopen checks that everything is found again.
func (s suite) reopen(t *testing.T) {
	root := t.TempDir()
	d, err := s.open(root)
	ok(t, err)
	layer(t, d, "one", "", func(dir string) { write(t, dir, "a", "1") })
	layer(t, d, "two", "one", func(dir string) { write(t, dir, "b", "2") })
	r, err := d.Prepare(t.Context(), "box", "two")
	ok(t, err)
	write(t, mount(t, r), "c", "3")
	_, err = d.Prepare(t.Context(), "gone", "two")
	ok(t, err)
	ok(t, d.Remove(t.Context(), "gone"))
	before := map[string]snapshot.Info{}
	for i := range d.Walk(t.Context()) {
		i.Created = i.Created.Truncate(time.Minute)
		before[i.Key] = i
	}
	ok(t, d.Close())

	d = s.reopened(t, root)
	after := map[string]snapshot.Info{}
	for i := range d.Walk(t.Context()) {
		i.Created = i.Created.Truncate(time.Minute)
		after[i.Key] = i
	}
	if !maps.Equal(before, after) {
		t.Errorf("before %v, after %v", before, after)
	}
	expect(t, view(t, d, "box"), "a=1 b=2 c=3")
	if err := d.Remove(t.Context(), "one"); errdefs.KindOf(err) != errdefs.Conflict {
		t.Errorf("remove a parent: %v", err)
	}
	r, err = d.Prepare(t.Context(), "new", "two")
	ok(t, err)
	expect(t, mount(t, r), "a=1 b=2")
}

// deep stacks as many layers as Docker's images may have.
func (s suite) deep(t *testing.T) {
	d, root := s.driver(t)
	parent := ""
	for i := range 125 {
		key := "layer" + strconv.Itoa(i)
		_, err := d.Prepare(t.Context(), "active", parent)
		ok(t, err)
		dir, err := d.Dir(t.Context(), "active")
		ok(t, err)
		write(t, dir, "f"+strconv.Itoa(i%10), strconv.Itoa(i))
		ok(t, d.Commit(t.Context(), key, "active"))
		parent = key
	}
	r, err := d.Prepare(t.Context(), "box", parent)
	ok(t, err)
	expect(t, mount(t, r), "f0=120 f1=121 f2=122 f3=123 f4=124 f5=115 f6=116 f7=117 f8=118 f9=119")
	length := 0
	for _, l := range r.Lower {
		length += len(strings.TrimPrefix(l, root)) + 1
	}
	if length > 4000 {
		t.Errorf("the lower directories take %d bytes of mount(2)'s page, relative to the root", length)
	}
	for i := 125; ; i++ {
		_, err := d.Prepare(t.Context(), "more", parent)
		if err != nil {
			if errdefs.KindOf(err) != errdefs.Exhausted {
				t.Error(err)
			}
			break
		}
		if i > 150 {
			break // this driver has no limit
		}
		parent = "layer" + strconv.Itoa(i)
		ok(t, d.Commit(t.Context(), parent, "more"))
	}
}

// concurrent lets many goroutines compete.
func (s suite) concurrent(t *testing.T) {
	root := t.TempDir()
	d, err := s.open(root)
	ok(t, err)
	ctx := t.Context()
	layer(t, d, "base", "", func(dir string) { write(t, dir, "f", "1") })
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := map[string]int{}
	for i := range 8 {
		wg.Go(func() {
			for n := range 20 {
				own, shared := fmt.Sprintf("box-%d-%d", i, n), fmt.Sprintf("shared-%d", n)
				if _, err := d.Prepare(ctx, own, "base"); err != nil {
					t.Error(err)
					return
				}
				err := d.Commit(ctx, shared, own)
				switch errdefs.KindOf(err) {
				case errdefs.Conflict: // somebody else was first
					if err := d.Remove(ctx, own); err != nil {
						t.Error(err)
					}
					continue
				}
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				won[shared]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for k, n := range won {
		if n != 1 {
			t.Errorf("%s was committed %d times", k, n)
		}
	}
	if len(won) != 20 {
		t.Errorf("%d of 20 committed", len(won))
	}
	if got := len(keys(t, d)); got != 21 {
		t.Errorf("%d snapshots, want 21", got)
	}
	// Remove against Prepare on the same parent: one of them wins.
	for n := range 20 {
		key, box := fmt.Sprintf("shared-%d", n), fmt.Sprintf("race-%d", n)
		var perr, rerr error
		wg.Go(func() { _, perr = d.Prepare(ctx, box, key) })
		wg.Go(func() { rerr = d.Remove(ctx, key) })
		wg.Wait()
		if (perr == nil) == (rerr == nil) {
			t.Errorf("prepare: %v, remove: %v", perr, rerr)
		}
	}
	ok(t, d.Close())
	again := s.reopened(t, root)
	if a, b := keys(t, d), keys(t, again); !slices.Equal(a, b) {
		t.Errorf("before %v, after %v", a, b)
	}
}

// remount mounts an active snapshot again, as a container's restart does.
func (s suite) remount(t *testing.T) {
	d, _ := s.driver(t)
	layer(t, d, "one", "", func(dir string) { write(t, dir, "a", "1") })
	t.Run("first", func(t *testing.T) {
		r, err := d.Prepare(t.Context(), "box", "one")
		ok(t, err)
		dir := mount(t, r)
		write(t, dir, "a", "2")
		ok(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
	})
	for i := range 2 {
		t.Run("again", func(t *testing.T) {
			dir := view(t, d, "box")
			write(t, dir, "n"+strconv.Itoa(i), "")
		})
	}
	expect(t, view(t, d, "box"), "a=2 d=/ n0= n1=")
}

// empty checks snapshots without a parent.
func (s suite) empty(t *testing.T) {
	d, _ := s.driver(t)
	r, err := d.Prepare(t.Context(), "box", "")
	ok(t, err)
	dir := mount(t, r)
	expect(t, dir, "")
	var st unix.Stat_t
	ok(t, unix.Stat(dir, &st))
	if st.Mode&0o7777 != 0o755 || st.Uid != 0 || st.Gid != 0 {
		t.Errorf("top directory: %d:%d %o", st.Uid, st.Gid, st.Mode)
	}
	write(t, dir, "f", "1")
	own, err := d.Dir(t.Context(), "box")
	ok(t, err)
	expect(t, own, "f=1")
}

// trees removes trees that are wide, deep and unreadable.
func (s suite) trees(t *testing.T) {
	root := t.TempDir()
	d, err := s.open(root)
	ok(t, err)
	r, err := d.Prepare(t.Context(), "box", "")
	ok(t, err)
	dir := mount(t, r)
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	ok(t, err)
	for range 3000 { // deeper than any path and than the limit of open files
		ok(t, unix.Mkdirat(fd, "dddddddddd", 0o700))
		next, err := unix.Openat(fd, "dddddddddd", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		ok(t, err)
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
	for i := range 2000 {
		write(t, dir, "f"+strconv.Itoa(i), "")
	}
	ok(t, os.Mkdir(filepath.Join(dir, "secret"), 0))
	ok(t, d.Remove(t.Context(), "box"))
	ok(t, d.Close())
	left := 0
	ok(t, filepath.WalkDir(root, func(_ string, e fs.DirEntry, err error) error { left++; return err }))
	if left > 300 {
		t.Errorf("%d files are left of a removed snapshot", left)
	}
}

// kill ends a process that uses the driver at any moment, many times over.
func (s suite) kill(t *testing.T, name string) {
	root := t.TempDir()
	for i := range 16 {
		done := s.killOnce(t, name, root, time.Duration(i*i)*time.Millisecond/3)
		s.converged(t, root, done)
		if t.Failed() {
			return
		}
	}
}

// killOnce runs the victim for a while and returns the lines that it printed:
// what it had done.
func (s suite) killOnce(t *testing.T, name, root string, after time.Duration) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+name+"$")
	cmd.Env = append(os.Environ(), victim+"="+root)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	var lines []string
	sc := bufio.NewScanner(out)
	for sc.Scan() {
		if line := sc.Text(); strings.HasPrefix(line, "victim ") {
			lines = append(lines, strings.TrimPrefix(line, "victim "))
			if len(lines) == 1 { // the driver is open
				time.AfterFunc(after, func() { cmd.Process.Kill() })
			}
		}
	}
	cmd.Wait()
	if len(lines) == 0 {
		t.Fatal("the victim did nothing")
	}
	return lines
}

// beVictim makes, commits and removes snapshots until it is killed, and prints
// what is done.
func beVictim(t *testing.T, open Factory, root string) {
	d, err := open(root)
	ok(t, err)
	say := func(format string, a ...any) { os.Stdout.WriteString(fmt.Sprintf("victim "+format+"\n", a...)) }
	run := strconv.FormatInt(time.Now().UnixNano(), 36)
	say("open")
	parent := ""
	for i := 0; ; i++ {
		box, key := fmt.Sprintf("box-%s-%d", run, i), fmt.Sprintf("key-%s-%d", run, i)
		late := parent != "" && d.Rebases() && i%2 == 1 // learns its parent last
		on := parent
		if late {
			on = ""
		}
		_, err := d.Prepare(t.Context(), box, on)
		ok(t, err)
		say("+%s", box)
		dir, err := d.Dir(t.Context(), box)
		ok(t, err)
		write(t, dir, "f", key)
		if late {
			ok(t, d.CommitOn(t.Context(), key, box, snapshot.Base{Parent: parent}))
		} else {
			ok(t, d.Commit(t.Context(), key, box))
		}
		say("-%s", box)
		say("+%s", key)
		if i%5 == 4 {
			_, err := d.Prepare(t.Context(), box, key)
			ok(t, err)
			ok(t, d.Remove(t.Context(), box))
			ok(t, d.Remove(t.Context(), key))
			say("-%s", key)
		} else if i%10 < 9 {
			parent = key
		}
		if i%10 == 9 {
			parent = ""
		}
	}
}

// converged checks that a driver which is opened after a kill has everything
// that was done, and nothing by halves.
func (s suite) converged(t *testing.T, root string, done []string) {
	t.Helper()
	d, err := s.open(root)
	ok(t, err)
	have := map[string]bool{}
	for i, err := range d.Walk(t.Context()) {
		ok(t, err)
		have[i.Key] = true
		if _, err := d.Root(t.Context(), i.Key); err != nil {
			t.Error(err)
		}
		dir, err := d.Dir(t.Context(), i.Key)
		ok(t, err)
		if i.Kind == snapshot.Committed {
			if b, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(b) != i.Key {
				t.Errorf("%s holds %q, %v", i.Key, b, err)
			}
		}
		if i.Parent != "" {
			if p, err := d.Stat(t.Context(), i.Parent); err != nil || p.Kind != snapshot.Committed {
				t.Errorf("parent of %s: %+v, %v", i.Key, p, err)
			}
		}
	}
	last := map[string]bool{}
	var order []string
	for _, line := range done[1:] {
		last[line[1:]] = line[0] == '+'
		order = append(order, line[1:])
	}
	for k, want := range last {
		// What was under way when the process died may be done or not.
		if have[k] != want && !slices.Contains(order[max(0, len(order)-3):], k) {
			t.Errorf("%s: there %v, want %v", k, have[k], want)
		}
	}
	before := len(keys(t, d))
	ok(t, d.Close())
	if _, err := os.Stat(filepath.Join(root, "s")); err != nil {
		return
	}
	if left := dirCount(t, root); left != before {
		t.Errorf("%d directories of %d snapshots", left, before)
	}
}

// dirCount counts the directories of a driver that uses snapshot.Dirs.
func dirCount(t *testing.T, root string) int {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(root, "s", "*", "*"))
	ok(t, err)
	return len(list)
}
