// Package volumetest has a volume plugin for tests of those who use one.
//
// Concurrency: a Plugin may be used while it serves.
//
// Source: docs/extend/plugins_volume.md of github.com/docker/cli.
package volumetest

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Plugin is a volume driver of scope global whose volumes are directories. It is an
// http.Handler, to be served on a socket (need.ServeHTTP).
type Plugin struct {
	Dir string // has a directory for each volume

	t     testing.TB
	mu    sync.Mutex
	calls []string
	users map[string][]string // by volume
	fail  map[string]string   // by method: what it says instead
}

// New returns a plugin without volumes. What it cannot read or write fails t.
func New(t testing.TB) *Plugin {
	return &Plugin{Dir: t.TempDir(), t: t, users: map[string][]string{}, fail: map[string]string{}}
}

// Fail makes a method, such as "Create", fail with these words; with "" it works
// again.
func (p *Plugin) Fail(method, words string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail[method] = words
}

// Hold keeps every answer back until release is called, once.
func (p *Plugin) Hold() (release func()) {
	p.mu.Lock()
	return p.mu.Unlock
}

// Users returns the ids of who has a volume mounted, in their order.
func (p *Plugin) Users(volume string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.users[volume])
}

// Calls returns what the plugin did, as "Mount NAME": of Create, Remove, Mount and
// Unmount.
func (p *Plugin) Calls() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.calls)
}

// Volumes returns the names of the volumes, in order.
func (p *Plugin) Volumes() (names []string) {
	all, err := os.ReadDir(p.Dir)
	if err != nil {
		p.t.Errorf("list the plugin's volumes: %v", err)
	}
	for _, e := range all {
		names = append(names, e.Name())
	}
	return names
}

// ServeHTTP implements http.Handler.
func (p *Plugin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q struct{ Name, ID string }
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		p.t.Errorf("%s: the request: %v", r.URL.Path, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	method := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/"), "VolumeDriver.")
	answer := map[string]any{}
	if words := p.fail[method]; words != "" {
		w.WriteHeader(http.StatusInternalServerError)
		answer["Err"] = words
	} else if err := p.answer(method, q.Name, q.ID, answer); err != nil {
		answer["Err"] = err.Error()
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		p.t.Errorf("%s: the answer: %v", r.URL.Path, err)
	}
}

// answer does what a method asks for, and adds to the answer. p.mu is held.
func (p *Plugin) answer(method, name, id string, answer map[string]any) error {
	path := filepath.Join(p.Dir, name)
	show := func(name string) any {
		return map[string]any{"Name": name, "Mountpoint": filepath.Join(p.Dir, name), "CreatedAt": "2020-01-02T03:04:05Z", "Status": map[string]any{"colour": "blue"}}
	}
	switch method {
	case "Create", "Remove", "Mount", "Unmount":
		p.calls = append(p.calls, method+" "+name)
	}
	switch method {
	case "Plugin.Activate":
		answer["Implements"] = []string{"VolumeDriver"}
	case "Capabilities":
		answer["Capabilities"] = map[string]string{"Scope": "global"}
	case "Create":
		return os.Mkdir(path, 0o755)
	case "Remove":
		return os.RemoveAll(path)
	case "Get":
		if _, err := os.Stat(path); err != nil {
			return err
		}
		answer["Volume"] = show(name)
	case "List":
		all := []any{}
		for _, n := range p.Volumes() {
			all = append(all, show(n))
		}
		answer["Volumes"] = all
	case "Mount":
		p.users[name] = append(p.users[name], id)
		answer["Mountpoint"] = path
	case "Unmount":
		p.users[name] = slices.DeleteFunc(p.users[name], func(u string) bool { return u == id })
	}
	return nil
}
