package e2e

import (
	"encoding/json"
	"fmt"
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

	"lade/internal/need"
	"lade/test/harness"
)

// TestVolumePlugin has Docker's client use volumes of a driver that is a program of
// its own, over a death of the daemon.
func TestVolumePlugin(t *testing.T) {
	need.Root(t)
	docker := need.Program(t, "docker", "Docker's client")
	d := &shelf{t: t, dir: t.TempDir(), users: map[string][]string{}}
	name := fmt.Sprintf("ladeshelf%d", os.Getpid())
	d.serve(name)
	e := harness.Start(t)
	try := func(args ...string) (string, error) {
		out, err := e.Command(docker, args...).CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	run := func(args ...string) string {
		t.Helper()
		out, err := try(args...)
		if err != nil {
			t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	settled := func(volume string, users int) {
		t.Helper()
		for end := time.Now().Add(need.Patience(30 * time.Second)); d.count(volume) != users; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the driver has %d users of %s, want %d", d.count(volume), volume, users)
			}
		}
	}

	run("volume", "create", "-d", name, "-o", "shelf=upper", "--label", "k=v", "books")
	run("run", "--rm", "-v", "books:/b", "lade/hello", "sh", "-c", "echo Ulysses > /b/one")
	if b, err := os.ReadFile(filepath.Join(d.dir, "books", "one")); err != nil || string(b) != "Ulysses\n" {
		t.Errorf("the driver's directory has %q, %v", b, err)
	}
	settled("books", 0)
	run("run", "-d", "--name", "reader", "--mount", "type=volume,source=books,target=/b,readonly", "lade/hello", "sleep", "1000")
	run("run", "-d", "--name", "other", "--volume-driver", name, "-v", "papers:/p", "-v", "/mine", "lade/hello", "sleep", "1000")
	settled("books", 1)
	if got := run("exec", "reader", "cat", "/b/one"); got != "Ulysses" {
		t.Errorf("read %q", got)
	}
	if got := run("volume", "inspect", "-f", "{{.Driver}} {{.Scope}} {{.Mountpoint}} {{.Options.shelf}} {{.Labels.k}} {{.Status.full}}", "books"); got != name+" global "+filepath.Join(d.dir, "books")+" upper v false" {
		t.Errorf("inspect: %s", got)
	}
	if got := run("info", "-f", "{{.Plugins.Volume}}"); got != "[local "+name+"]" {
		t.Errorf("info: %s", got)
	}
	if got := strings.Fields(run("volume", "ls", "-q", "--filter", "driver="+name)); len(got) != 3 {
		t.Errorf("volume ls: %q", got)
	}
	if out, err := try("volume", "rm", "books"); err == nil || !strings.Contains(out, "remove books: volume is in use - [") {
		t.Errorf("removed in use: %s", out)
	}

	e.Kill()
	e.Launch()
	if got := run("exec", "reader", "cat", "/b/one"); got != "Ulysses" {
		t.Errorf("after the daemon's death: read %q", got)
	}
	settled("books", 1)
	run("stop", "-t", "0", "reader")
	settled("books", 0)
	run("start", "reader")
	settled("books", 1)
	run("rm", "-f", "reader")
	settled("books", 0)
	run("rm", "-fv", "other") // its anonymous volume with it
	if got := d.names(); got != "books papers" {
		t.Errorf("the driver has %s", got)
	}
	run("volume", "prune", "-af")
	run("volume", "rm", "books", "papers")
	if got := d.names(); got != "" {
		t.Errorf("the driver has %s after all were removed", got)
	}
	if out, err := try("volume", "create", "-d", name, "full"); err == nil || out != "Error response from daemon: create full: VolumeDriver.Create: the shelf is full" {
		t.Errorf("an error of the driver: %s", out)
	}
}

// shelf is a volume driver whose volumes are directories.
type shelf struct {
	t   *testing.T
	dir string

	mu    sync.Mutex
	users map[string][]string // of volumes, by id
}

// serve serves the driver where a file tells the engine.
func (d *shelf) serve(name string) {
	d.t.Helper()
	l, err := net.Listen("unix", filepath.Join(d.t.TempDir(), "s"))
	if err != nil {
		d.t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: d}}
	s.Start()
	d.t.Cleanup(s.Close)
	put(d.t, "/etc/docker/plugins", name+".spec", "unix://"+l.Addr().String())
}

func (d *shelf) count(volume string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.users[volume])
}

func (d *shelf) names() string {
	all, err := os.ReadDir(d.dir)
	if err != nil {
		d.t.Error(err)
	}
	var names []string
	for _, n := range all {
		names = append(names, n.Name())
	}
	return strings.Join(names, " ")
}

func (d *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var q struct{ Name, ID string }
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		d.t.Error(err)
	}
	path := filepath.Join(d.dir, q.Name)
	show := func(name string) any {
		return map[string]any{"Name": name, "Mountpoint": filepath.Join(d.dir, name), "Status": map[string]any{"full": false}}
	}
	answer := map[string]any{}
	var err error
	switch strings.TrimPrefix(r.URL.Path, "/VolumeDriver.") {
	case "/Plugin.Activate":
		answer["Implements"] = []string{"VolumeDriver"}
	case "Create":
		if err = os.Mkdir(path, 0o755); q.Name == "full" {
			err = fmt.Errorf("the shelf is full")
			os.Remove(path)
		}
	case "Get":
		if _, err = os.Stat(path); err == nil {
			answer["Volume"] = show(q.Name)
		}
	case "List":
		all := []any{}
		for n := range strings.FieldsSeq(d.names()) {
			all = append(all, show(n))
		}
		answer["Volumes"] = all
	case "Mount":
		d.users[q.Name] = append(d.users[q.Name], q.ID)
		answer["Mountpoint"] = path
	case "Unmount":
		d.users[q.Name] = slices.DeleteFunc(d.users[q.Name], func(u string) bool { return u == q.ID })
	case "Remove":
		err = os.RemoveAll(path)
	case "Capabilities":
		answer["Capabilities"] = map[string]string{"Scope": "global"}
	}
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		answer = map[string]any{"Err": err.Error()}
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		d.t.Error(err)
	}
}
