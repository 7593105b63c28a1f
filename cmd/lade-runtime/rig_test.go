package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// edit changes the bundle's configuration.
func (r *rig) edit(f func(*specs.Spec)) {
	r.t.Helper()
	file := filepath.Join(r.bundle, "config.json")
	raw, err := os.ReadFile(file)
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := parseSpec(raw)
	if err != nil {
		r.t.Fatal(err)
	}
	f(s)
	b, err := json.Marshal(s)
	if err == nil {
		err = os.WriteFile(file, b, 0o644)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// json runs a verb and reads what it prints.
func (r *rig) json(v any, args ...string) {
	r.t.Helper()
	out := r.do(args...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		r.t.Fatalf("%v: %v in %s", args, err, out)
	}
}

// run runs the container to its end and returns its output.
func (r *rig) run(args ...string) string {
	r.t.Helper()
	return r.do(append(append([]string{"run", "--bundle", r.bundle}, args...), r.id)...)
}

func (r *rig) failsCreate() (int, string) {
	r.t.Helper()
	return r.fails("create", "--bundle", r.bundle, r.id)
}

// nothingLeft looks for what a container can leave behind.
func (r *rig) nothingLeft() {
	r.t.Helper()
	if left, err := os.ReadDir(r.root); err != nil && !errors.Is(err, fs.ErrNotExist) || len(left) != 0 {
		r.t.Errorf("state: %v, %v", left, err)
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + r.id)
	if _, err := os.Stat("/sys/fs/cgroup/" + r.id); err == nil {
		groups = append(groups, r.id)
	}
	if len(groups) != 0 {
		r.t.Errorf("control groups: %v", groups)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}
