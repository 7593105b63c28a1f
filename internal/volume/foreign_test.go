package volume

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/volume"

	"lade/internal/errdefs"
	"lade/internal/linux/mount"
	"lade/internal/need"
	"lade/internal/plugin"
	"lade/internal/store"
)

// driverOnDisk is a volume plugin whose volumes are directories.
type driverOnDisk struct {
	t    *testing.T
	dir  string // of the volumes
	dirs plugin.Dirs

	mu    sync.Mutex
	calls []string
	users map[string][]string // by volume
	fail  map[string]string   // by method: what it says instead
}

// driverNamed serves a plugin of a name; stop takes it away.
func driverNamed(t *testing.T, name string) (d *driverOnDisk, stop func()) {
	t.Helper()
	d = &driverOnDisk{t: t, dir: t.TempDir(), dirs: plugin.Dirs{Sockets: []string{t.TempDir()}}, users: map[string][]string{}, fail: map[string]string{}}
	return d, d.serve(name)
}

func (d *driverOnDisk) serve(name string) (stop func()) {
	d.t.Helper()
	l, err := net.Listen("unix", filepath.Join(d.dirs.Sockets[0], name+".sock"))
	if err != nil {
		d.t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: d}}
	s.Start()
	stop = sync.OnceFunc(s.Close)
	d.t.Cleanup(stop)
	return stop
}

func (d *driverOnDisk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var q struct {
		Name, ID string
		Opts     map[string]string
	}
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		d.t.Error(err)
	}
	method := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/"), "VolumeDriver.")
	if says := d.fail[method]; says != "" {
		w.WriteHeader(http.StatusInternalServerError)
		json.NewEncoder(w).Encode(map[string]string{"Err": says})
		return
	}
	path := filepath.Join(d.dir, q.Name)
	show := func(name string) map[string]any {
		return map[string]any{"Name": name, "Mountpoint": filepath.Join(d.dir, name), "CreatedAt": "2020-01-02T03:04:05Z", "Status": map[string]any{"colour": "blue"}}
	}
	_, err := os.Stat(path)
	answer := map[string]any{}
	switch method {
	case "Plugin.Activate":
		answer["Implements"] = []string{"VolumeDriver"}
	case "Create":
		if err := os.Mkdir(path, 0o755); err != nil {
			answer["Err"] = err.Error()
		}
	case "Remove":
		answer["Err"] = ""
		os.RemoveAll(path)
	case "Get":
		if err != nil {
			answer["Err"] = "never heard of it"
			break
		}
		answer["Volume"] = show(q.Name)
	case "List":
		all := []any{}
		names, _ := os.ReadDir(d.dir)
		for _, n := range names {
			all = append(all, show(n.Name()))
		}
		answer["Volumes"] = all
	case "Mount":
		d.users[q.Name] = append(d.users[q.Name], q.ID)
		answer["Mountpoint"] = path
	case "Unmount":
		d.users[q.Name] = slices.DeleteFunc(d.users[q.Name], func(u string) bool { return u == q.ID })
	case "Capabilities":
		answer["Capabilities"] = map[string]string{"Scope": "global"}
	}
	switch method {
	case "Create", "Remove", "Mount", "Unmount":
		d.calls = append(d.calls, method+" "+q.Name)
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		d.t.Error(err)
	}
}

// says makes a method fail; "" mends it.
func (d *driverOnDisk) says(method, words string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail[method] = words
}

func (d *driverOnDisk) usersOf(name string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.users[name], " ")
}

// until waits for something that happens in the background.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(need.Patience(30 * time.Second)); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestPlugin follows a volume of a plugin from its making to its removal.
func TestPlugin(t *testing.T) {
	need.Root(t)
	d, _ := driverNamed(t, "disk")
	v := fresh(t, t.TempDir())
	v.UsePlugins(d.dirs)
	ctx := t.Context()
	vol, created, err := v.Create(ctx, volume.CreateRequest{Name: "aa", Driver: "disk", Labels: map[string]string{"k": "v"}, DriverOpts: map[string]string{"any": "thing"}})
	if err != nil || !created || vol.Driver != "disk" {
		t.Fatal(vol, created, err)
	}
	at := v.Path("aa")
	t.Cleanup(func() { mount.Detach(at) })
	if err := os.WriteFile(filepath.Join(d.dir, "aa", "f"), []byte("the driver's"), 0o600); err != nil {
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
	if !seen() || d.usersOf("aa") != "c1 c2" {
		t.Errorf("mounted: %v for %q", seen(), d.usersOf("aa"))
	}
	if err := v.Remove(ctx, "aa", true); errdefs.KindOf(err) != errdefs.Conflict || err.Error() != "remove aa: volume is in use - [c1, c2]" {
		t.Errorf("removed while it is used: %v", err)
	}
	if in, err := v.Ask(ctx, "aa"); err != nil || in.Scope != "global" || in.Mountpoint != filepath.Join(d.dir, "aa") || in.Status["colour"] != "blue" || in.Labels["k"] != "v" || in.Options["any"] != "thing" {
		t.Errorf("inspect: %+v, %v", in, err)
	}
	if !v.External("aa") || strings.Join(v.Drivers(), " ") != "local disk" {
		t.Errorf("external %v, drivers %q", v.External("aa"), v.Drivers())
	}
	v.Unmount("aa", "c1")
	until(t, "c1 leaves", func() bool { return d.usersOf("aa") == "c2" })
	if !seen() {
		t.Error("taken away from c2")
	}
	v.Unmount("aa", "c2")
	v.Unmount("aa", "c2")
	until(t, "c2 leaves", func() bool { return d.usersOf("aa") == "" && !seen() })
	v.Release("c1")
	v.Release("c2")
	if _, err := v.Rename(ctx, "aa", "bb"); errdefs.KindOf(err) != errdefs.Conflict {
		t.Errorf("renamed: %v", err)
	}
	if _, _, err := v.Create(ctx, volume.CreateRequest{Name: "aa", Driver: "local"}); errdefs.KindOf(err) != errdefs.Conflict || err.Error() != "create aa: driver 'disk' already has volume 'aa': volume name must be unique" {
		t.Errorf("two drivers for one name: %v", err)
	}
	d.says("Remove", "not now")
	if err := v.Remove(ctx, "aa", false); err == nil || err.Error() != "remove aa: VolumeDriver.Remove: not now" {
		t.Errorf("the driver did not want to: %v", err)
	}
	if _, err := v.Inspect("aa"); err != nil {
		t.Errorf("and then it was gone: %v", err)
	}
	d.says("Remove", "")
	if err := v.Remove(ctx, "aa", false); err != nil {
		t.Error(err)
	}
	if _, err := v.Ask(ctx, "aa"); errdefs.KindOf(err) != errdefs.NotFound {
		t.Errorf("after its removal: %v", err)
	}
	if got, want := strings.Join(d.calls, ", "), "Create aa, Mount aa, Mount aa, Unmount aa, Unmount aa, Remove aa"; got != want {
		t.Errorf("the driver was told %s, want %s", got, want)
	}
}

// TestPluginRefuses: what a driver does not want is not there, and one that is not
// there says so.
func TestPluginRefuses(t *testing.T) {
	need.Root(t)
	d, stop := driverNamed(t, "disk")
	v := fresh(t, t.TempDir())
	v.UsePlugins(d.dirs)
	ctx := t.Context()
	d.says("Create", "the disk is full")
	if _, _, err := v.Create(ctx, volume.CreateRequest{Name: "aa", Driver: "disk"}); err == nil || err.Error() != "create aa: VolumeDriver.Create: the disk is full" {
		t.Errorf("Create: %v", err)
	}
	if _, _, err := v.Create(ctx, volume.CreateRequest{Name: "aa", Driver: "tape"}); errdefs.KindOf(err) != errdefs.NotFound || err.Error() != `create aa: error looking up volume plugin tape: plugin "tape" not found` {
		t.Errorf("no driver: %v", err)
	}
	if len(v.List()) != 0 {
		t.Error("something was made")
	}
	d.says("Create", "")
	if _, _, err := v.Create(ctx, volume.CreateRequest{Name: "aa", Driver: "disk"}); err != nil {
		t.Fatal(err)
	}
	d.says("Mount", "no")
	if err := v.Mount(ctx, "aa", "c"); err == nil || err.Error() != "error while mounting volume '"+v.Path("aa")+"': VolumeDriver.Mount: no" {
		t.Errorf("Mount: %v", err)
	}
	if isMounted(t, v.Path("aa")) {
		t.Error("something is mounted")
	}
	// One that others have made is found by its name, and used where it is.
	if err := os.Mkdir(filepath.Join(d.dir, "theirs"), 0o755); err != nil {
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
	d, stop := driverNamed(t, "disk")
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
		v.UsePlugins(d.dirs)
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
	d.serve("disk")
	v, s = open(map[string][]string{"aa": {"lives"}})
	defer s.Close()
	defer v.Close()
	until(t, "the driver knows who is gone", func() bool { return d.usersOf("aa") == "lives" && d.usersOf("bb") == "" })
	v.Unmount("aa", "lives")
	until(t, "and who leaves later", func() bool { return d.usersOf("aa") == "" })
	if left, err := filepath.Glob(filepath.Join(dir, "volumes", "*", notes, "*")); err != nil || len(left) > 0 {
		t.Errorf("noted still: %q, %v", left, err)
	}
}

// TestPluginGivenUp: a caller that goes away while the driver mounts holds nothing.
func TestPluginGivenUp(t *testing.T) {
	need.Root(t)
	d, _ := driverNamed(t, "disk")
	v := fresh(t, t.TempDir())
	v.UsePlugins(d.dirs)
	if _, _, err := v.Create(t.Context(), volume.CreateRequest{Name: "aa", Driver: "disk"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	d.mu.Lock() // it does not answer
	failed := make(chan error, 1)
	go func() { failed <- v.Mount(ctx, "aa", "c") }()
	cancel()
	if err := <-failed; err == nil {
		t.Error("mounted all the same")
	}
	d.mu.Unlock()
	if err := v.Mount(t.Context(), "aa", "other"); err != nil {
		t.Fatal(err)
	}
	until(t, "c is gone", func() bool { return d.usersOf("aa") == "other" })
	v.Unmount("aa", "other")
	until(t, "nothing is mounted", func() bool { return !isMounted(t, v.Path("aa")) })
}
