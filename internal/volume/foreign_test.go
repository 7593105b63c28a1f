package volume

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/volume"

	"lade/internal/errdefs"
	"lade/internal/linux/mount"
	"lade/internal/need"
	"lade/internal/plugin"
	"lade/internal/store"
	"lade/internal/volume/volumetest"
)

// driverOnDisk serves a volume plugin "disk", which is found in dirs until stop is
// called.
func driverOnDisk(t *testing.T) (d *volumetest.Plugin, dirs plugin.Dirs, stop func()) {
	t.Helper()
	d, dirs = volumetest.New(t), plugin.Dirs{Sockets: []string{t.TempDir()}}
	return d, dirs, need.ServeHTTP(t, filepath.Join(dirs.Sockets[0], "disk.sock"), d)
}

// usedBy reports whether just these have a volume mounted, as the driver knows.
func usedBy(d *volumetest.Plugin, volume string, users ...string) func() bool {
	return func() bool { return slices.Equal(d.Users(volume), users) }
}

// TestPlugin follows a volume of a plugin from its making to its removal.
func TestPlugin(t *testing.T) {
	need.Root(t)
	d, dirs, _ := driverOnDisk(t)
	v := fresh(t, t.TempDir())
	v.UsePlugins(dirs)
	ctx := t.Context()
	vol, created, err := v.Create(ctx, volume.CreateRequest{Name: "aa", Driver: "disk", Labels: map[string]string{"k": "v"}, DriverOpts: map[string]string{"any": "thing"}})
	if err != nil || !created || vol.Driver != "disk" {
		t.Fatal(vol, created, err)
	}
	at := v.Path("aa")
	t.Cleanup(func() { mount.Detach(at) })
	if err := os.WriteFile(filepath.Join(d.Dir, "aa", "f"), []byte("the driver's"), 0o600); err != nil {
		t.Fatal(err)
	}
	seen := func() bool { _, err := os.Stat(filepath.Join(at, "f")); return err == nil }
	if seen() {
		t.Error("its files are there before anybody needs them")
	}
	for _, user := range []string{"c1", "c2", "c2"} {
		if err := v.Use("aa", user); err != nil {
			t.Fatal(err)
		}
		if err := v.Mount(ctx, "aa", user); err != nil {
			t.Fatal(err)
		}
	}
	if !seen() || !usedBy(d, "aa", "c1", "c2")() {
		t.Errorf("mounted: %v for %q", seen(), d.Users("aa"))
	}
	if err := v.Remove(ctx, "aa", true); errdefs.KindOf(err) != errdefs.Conflict || err.Error() != "remove aa: volume is in use - [c1, c2]" {
		t.Errorf("removed while it is used: %v", err)
	}
	if in, err := v.Ask(ctx, "aa"); err != nil || in.Scope != "global" || in.Mountpoint != filepath.Join(d.Dir, "aa") || in.Status["colour"] != "blue" || in.Labels["k"] != "v" || in.Options["any"] != "thing" {
		t.Errorf("inspect: %+v, %v", in, err)
	}
	if !v.External("aa") || strings.Join(v.Drivers(), " ") != "local disk" {
		t.Errorf("external %v, drivers %q", v.External("aa"), v.Drivers())
	}
	v.Unmount("aa", "c1")
	need.Eventually(t, "c1 leaves", usedBy(d, "aa", "c2"))
	if !seen() {
		t.Error("taken away from c2")
	}
	v.Unmount("aa", "c2")
	v.Unmount("aa", "c2")
	need.Eventually(t, "c2 leaves", func() bool { return len(d.Users("aa")) == 0 && !seen() })
	v.Release("c1")
	v.Release("c2")
	if _, err := v.Rename(ctx, "aa", "bb"); errdefs.KindOf(err) != errdefs.Conflict {
		t.Errorf("renamed: %v", err)
	}
	if _, _, err := v.Create(ctx, volume.CreateRequest{Name: "aa", Driver: "local"}); errdefs.KindOf(err) != errdefs.Conflict || err.Error() != "create aa: driver 'disk' already has volume 'aa': volume name must be unique" {
		t.Errorf("two drivers for one name: %v", err)
	}
	d.Fail("Remove", "not now")
	if err := v.Remove(ctx, "aa", false); err == nil || err.Error() != "remove aa: VolumeDriver.Remove: not now" {
		t.Errorf("the driver did not want to: %v", err)
	}
	if _, err := v.Inspect("aa"); err != nil {
		t.Errorf("and then it was gone: %v", err)
	}
	d.Fail("Remove", "")
	if err := v.Remove(ctx, "aa", false); err != nil {
		t.Error(err)
	}
	if _, err := v.Ask(ctx, "aa"); errdefs.KindOf(err) != errdefs.NotFound {
		t.Errorf("after its removal: %v", err)
	}
	if got, want := strings.Join(d.Calls(), ", "), "Create aa, Mount aa, Mount aa, Unmount aa, Unmount aa, Remove aa"; got != want {
		t.Errorf("the driver was told %s, want %s", got, want)
	}
}

// TestPluginRefuses: what a driver does not want is not there, and one that is not
// there says so.
func TestPluginRefuses(t *testing.T) {
	need.Root(t)
	d, dirs, stop := driverOnDisk(t)
	v := fresh(t, t.TempDir())
	v.UsePlugins(dirs)
	ctx := t.Context()
	d.Fail("Create", "the disk is full")
	if _, _, err := v.Create(ctx, volume.CreateRequest{Name: "aa", Driver: "disk"}); err == nil || err.Error() != "create aa: VolumeDriver.Create: the disk is full" {
		t.Errorf("Create: %v", err)
	}
	if _, _, err := v.Create(ctx, volume.CreateRequest{Name: "aa", Driver: "tape"}); errdefs.KindOf(err) != errdefs.NotFound || err.Error() != `create aa: error looking up volume plugin tape: plugin "tape" not found` {
		t.Errorf("no driver: %v", err)
	}
	if len(v.List()) != 0 {
		t.Error("something was made")
	}
	d.Fail("Create", "")
	if _, _, err := v.Create(ctx, volume.CreateRequest{Name: "aa", Driver: "disk"}); err != nil {
		t.Fatal(err)
	}
	d.Fail("Mount", "no")
	if err := v.Mount(ctx, "aa", "c"); err == nil || err.Error() != "error while mounting volume '"+v.Path("aa")+"': VolumeDriver.Mount: no" {
		t.Errorf("Mount: %v", err)
	}
	if isMounted(t, v.Path("aa")) {
		t.Error("something is mounted")
	}
	// One that others have made is found by its name, and used where it is.
	if err := os.Mkdir(filepath.Join(d.Dir, "theirs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if all, warnings := v.All(ctx); len(all) != 2 || all[1].Name != "theirs" || all[1].Driver != "disk" || len(warnings) > 0 {
		t.Errorf("list: %+v %q", all, warnings)
	}
	if vol, _, err := v.Create(ctx, volume.CreateRequest{Name: "theirs"}); err != nil || vol.Driver != "disk" {
		t.Errorf("theirs: %+v, %v", vol, err)
	}
	stop()
	if _, err := v.Ask(ctx, "aa"); errdefs.KindOf(err) == errdefs.NotFound || err == nil {
		t.Errorf("inspect without the driver: %v", err)
	}
	if all, warnings := v.All(ctx); len(all) != 2 || len(warnings) != 1 {
		t.Errorf("list without the driver: %+v %q", all, warnings)
	}
	if err := v.Remove(ctx, "aa", false); err == nil || len(v.List()) != 2 {
		t.Errorf("removed without the driver: %v", err)
	}
	if err := v.Remove(ctx, "aa", true); err == nil || len(v.List()) != 1 {
		t.Errorf("not forgotten by force: %v", err)
	}
}

// TestPluginAfterCrash: an engine that comes after one that died tells the driver
// who is gone, and leaves alone what is used.
func TestPluginAfterCrash(t *testing.T) {
	need.Root(t)
	d, dirs, stop := driverOnDisk(t)
	dir := t.TempDir()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	open := func(users map[string][]string) (*Volumes, *store.Store) {
		t.Helper()
		s, err := store.Open(filepath.Join(dir, "store"), log)
		if err != nil {
			t.Fatal(err)
		}
		v, err := New(filepath.Join(dir, "volumes"), s, log)
		if err != nil {
			t.Fatal(err)
		}
		v.UsePlugins(dirs)
		if err := v.Recover(users); err != nil {
			t.Fatal(err)
		}
		return v, s
	}
	v, s := open(nil)
	for _, name := range []string{"aa", "bb"} {
		if _, _, err := v.Create(t.Context(), volume.CreateRequest{Name: name, Driver: "disk"}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { mount.Detach(v.Path(name)) })
		for _, user := range []string{"lives", "dies"} {
			if err := v.Mount(t.Context(), name, user); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop() // the driver is restarted, too, and is there again later
	v.Close()
	s.Close()
	v, s = open(map[string][]string{"aa": {"lives"}})
	v.Close()
	s.Close()
	if isMounted(t, v.Path("bb")) || !isMounted(t, v.Path("aa")) {
		t.Error("the mounts are not those that are used")
	}
	need.ServeHTTP(t, filepath.Join(dirs.Sockets[0], "disk.sock"), d)
	v, s = open(map[string][]string{"aa": {"lives"}})
	defer s.Close()
	defer v.Close()
	need.Eventually(t, "the driver knows who is gone", func() bool { return usedBy(d, "aa", "lives")() && usedBy(d, "bb")() })
	v.Unmount("aa", "lives")
	need.Eventually(t, "and who leaves later", usedBy(d, "aa"))
	if left, err := filepath.Glob(filepath.Join(dir, "volumes", "*", notes, "*")); err != nil || len(left) > 0 {
		t.Errorf("noted still: %q, %v", left, err)
	}
}

// TestPluginGivenUp: a caller that goes away while the driver mounts holds nothing.
func TestPluginGivenUp(t *testing.T) {
	need.Root(t)
	d, dirs, _ := driverOnDisk(t)
	v := fresh(t, t.TempDir())
	v.UsePlugins(dirs)
	if _, _, err := v.Create(t.Context(), volume.CreateRequest{Name: "aa", Driver: "disk"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	release := d.Hold()
	failed := make(chan error, 1)
	go func() { failed <- v.Mount(ctx, "aa", "c") }()
	cancel()
	if err := <-failed; err == nil {
		t.Error("mounted all the same")
	}
	release()
	if err := v.Mount(t.Context(), "aa", "other"); err != nil {
		t.Fatal(err)
	}
	need.Eventually(t, "c is gone", usedBy(d, "aa", "other"))
	v.Unmount("aa", "other")
	need.Eventually(t, "nothing is mounted", func() bool { return !isMounted(t, v.Path("aa")) })
}
