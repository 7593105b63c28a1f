package swagger

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"gopkg.in/yaml.v3"
)

// newest is the minor version of swagger.yaml.
const newest = 56

// Oldest and Newest are the minor versions that have a file.
const (
	Oldest = 25
	Newest = newest
)

// Spec is one version of the contract.
type Spec struct {
	Minor       int
	Paths       map[string]map[string]operation `yaml:"paths"`
	Definitions map[string]*schema              `yaml:"definitions"`
	Responses   map[string]*response            `yaml:"responses"`

	later []*Spec // versions of which fields are known to clients of this one
}

// Operation is a method and a path as the contract writes it.
type Operation struct {
	ID, Method, Path string
	segments         []string
}

type operation struct {
	ID        string               `yaml:"operationId"`
	Responses map[string]*response `yaml:"responses"`
}

type response struct {
	Ref    string  `yaml:"$ref"`
	Schema *schema `yaml:"schema"`
}

// directory is where the module's files are.
var directory = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/moby/moby/api").Output()
	if err != nil {
		return "", fmt.Errorf("go list -m: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
})

// Load reads version 1.minor.
func Load(t testing.TB, minor int) *Spec {
	t.Helper()
	s := load(t, minor)
	// Old files leave out what was there, and Docker sends new fields to old
	// clients.
	for _, later := range []int{40, 48, newest} {
		if later > minor {
			s.later = append(s.later, load(t, later))
		}
	}
	return s
}

// last returns the newest version.
func (s *Spec) last() *Spec {
	if len(s.later) == 0 {
		return s
	}
	return s.later[len(s.later)-1]
}

// files are the versions that were read: reading one takes a tenth of a second.
var files sync.Map // of int to *Spec

func load(t testing.TB, minor int) *Spec {
	t.Helper()
	if s, ok := files.Load(minor); ok {
		c := *s.(*Spec)
		return &c
	}
	dir, err := directory()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "docs", "v1."+strconv.Itoa(minor)+".yaml")
	if minor == newest {
		name = filepath.Join(dir, "swagger.yaml")
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	s := &Spec{Minor: minor}
	if err := yaml.Unmarshal(b, s); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(s.Paths) < 60 || len(s.Definitions) < 40 {
		t.Fatalf("%s: %d paths, %d definitions", name, len(s.Paths), len(s.Definitions))
	}
	files.Store(minor, s)
	c := *s
	return &c
}

// Operations lists what the version has, by path and method.
func (s *Spec) Operations() (all []Operation) {
	for _, path := range slices.Sorted(maps.Keys(s.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(s.Paths[path])) {
			all = append(all, Operation{s.Paths[path][method].ID, strings.ToUpper(method), path, strings.Split(path, "/")})
		}
	}
	return all
}

// Find returns the operation that a request's path, without the version, is
// for: of several the one with the fewest parameters. A parameter {name} may
// contain slashes, as the names of images do.
func (s *Spec) Find(method, path string) (found Operation, ok bool) {
	fewest := 100
	for _, o := range s.Operations() {
		if n := strings.Count(o.Path, "{"); o.Method == method && n < fewest && matches(o.segments, strings.Split(path, "/")) {
			found, ok, fewest = o, true, n
		}
	}
	return found, ok
}

func matches(pattern, path []string) bool {
	if len(pattern) == 0 || len(path) == 0 {
		return len(pattern) == len(path)
	}
	if pattern[0] == path[0] {
		return matches(pattern[1:], path[1:])
	}
	if !strings.HasPrefix(pattern[0], "{") {
		return false
	}
	for n := 1; n <= len(path); n++ {
		if matches(pattern[1:], path[n:]) {
			return true
		}
	}
	return false
}

// answer returns the schema of the operation's answer with a status, nil when
// the contract says nothing of its body.
func (s *Spec) answer(o Operation, status int) *schema {
	r := s.Paths[o.Path][strings.ToLower(o.Method)].Responses[strconv.Itoa(status)]
	for r != nil && r.Ref != "" {
		r = s.Responses[strings.TrimPrefix(r.Ref, "#/responses/")]
	}
	if r == nil {
		return nil
	}
	return r.Schema
}
