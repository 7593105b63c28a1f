package cdi

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
)

const sound = `
cdiVersion: "0.6.0"
kind: vendor.example/sound
containerEdits:
  env: [ "ALL=1", "PATH=/vendor" ]
devices:
- name: card0
  containerEdits:
    deviceNodes:
    - { path: /dev/snd, hostPath: /dev/real, permissions: rw, fileMode: 0640 }
    - { path: /dev/made, type: c, major: 7, minor: 9 }
    mounts:
    - { hostPath: /usr/lib/vendor, containerPath: /usr/lib, options: [ro] }
    additionalGids: [ 29, 0 ]
- name: card1
  containerEdits:
    env: [ "CARD=1" ]
    hooks:
    - { hookName: createContainer, path: /bin/hook, args: [hook, x], timeout: 3 }
`

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func find(path string) ([]specs.LinuxDevice, error) {
	if path != "/dev/real" {
		return nil, errdefs.Invalidf("no such file or directory")
	}
	return []specs.LinuxDevice{{Path: path, Type: "c", Major: 1, Minor: 3}}, nil
}

// TestApply: what a device brings, and what its file brings for all, is in the
// specification once, in the place of what was there.
func TestApply(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "sound.yaml", sound)
	r := Read([]string{"/nowhere", dir})
	if got := strings.Join(r.Names(), " "); got != "vendor.example/sound=card0 vendor.example/sound=card1" || len(r.Wrong()) > 0 || !r.Has("vendor.example/sound") || r.Has("vendor.example/s") {
		t.Fatalf("devices %s, wrong %q", got, r.Wrong())
	}
	e, err := r.Find(r.Names())
	if err != nil {
		t.Fatal(err)
	}
	s := &specs.Spec{
		Process: &specs.Process{Env: []string{"PATH=/bin", "HOME=/"}},
		Mounts:  []specs.Mount{{Destination: "/proc"}, {Destination: "/usr/lib/x"}, {Destination: "/usr/lib"}},
		Linux:   &specs.Linux{Resources: &specs.LinuxResources{}, Devices: []specs.LinuxDevice{{Path: "/dev/made", Major: 5}}},
	}
	if err := e.Apply(s, find); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.Process.Env, " "); got != "PATH=/vendor HOME=/ ALL=1 CARD=1" {
		t.Errorf("environment: %s", got)
	}
	if d := s.Linux.Devices; len(d) != 2 || d[0].Path != "/dev/snd" || d[0].Major != 1 || d[0].Minor != 3 || *d[0].FileMode != 0o640 || d[1].Major != 7 {
		t.Errorf("nodes: %+v", d)
	}
	if d := s.Linux.Resources.Devices; len(d) != 2 || d[0].Access != "rw" || d[1].Access != "rwm" || *d[1].Minor != 9 {
		t.Errorf("rules: %+v", d)
	}
	if m := s.Mounts; len(m) != 3 || m[1].Destination != "/usr/lib" || m[1].Source != "/usr/lib/vendor" || m[1].Type != "bind" || !slices.Equal(m[1].Options, []string{"rbind", "ro"}) {
		t.Errorf("mounts: %+v", m)
	}
	if h := s.Hooks; h == nil || len(h.CreateContainer) != 1 || h.CreateContainer[0].Args[1] != "x" || *h.CreateContainer[0].Timeout != 3 || !e.NeedsRuntime() {
		t.Errorf("hooks: %+v", s.Hooks)
	}
	if got := e.Groups(); !slices.Equal(got, []string{"29"}) {
		t.Errorf("groups: %q", got)
	}
	if _, err := r.Find([]string{"vendor.example/sound=card0", "vendor.example/sound=card9", "other/x=y"}); errdefs.KindOf(err) != errdefs.Invalid ||
		err.Error() != "CDI device injection failed: unresolvable CDI devices vendor.example/sound=card9, other/x=y" {
		t.Errorf("unknown: %v", err)
	}
}

// TestRead: later directories go first, two files of one directory that disagree
// take the device away, and a broken file takes nothing else away.
func TestRead(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	one := func(env string) string {
		return `{"cdiVersion":"1.0.0","kind":"v.example/c","devices":[{"name":"` + env + `","containerEdits":{"env":["FROM=` + env + `"]}},{"name":"both","containerEdits":{"env":["FROM=` + env + `"]}}]}`
	}
	write(t, first, "a.json", one("a"))
	write(t, second, "b.json", one("b"))
	write(t, second, "broken.yaml", "cdiVersion: [")
	write(t, second, "notes.txt", "not one of them")
	from := func() string {
		e, err := Read([]string{first, second}).Find([]string{"v.example/c=both"})
		if err != nil {
			return err.Error()
		}
		s := &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}}
		if err := e.Apply(s, find); err != nil {
			t.Fatal(err)
		}
		return strings.Join(s.Process.Env, " ")
	}
	if got := from(); got != "FROM=b" {
		t.Errorf("of two directories: %s", got)
	}
	write(t, second, "c.json", one("c"))
	if got := from(); !strings.Contains(got, "unresolvable CDI devices v.example/c=both") || !strings.Contains(got, "conflicting device") || !strings.Contains(got, "broken.yaml") {
		t.Errorf("of two files of one directory: %s", got)
	}
}

// TestParse refuses what breaks the specification.
func TestParse(t *testing.T) {
	for what, text := range map[string]string{
		"version":     `{"cdiVersion":"9.0.0","kind":"v.e/c","devices":[{"name":"a"}]}`,
		"kind":        `{"cdiVersion":"1.0.0","kind":"c","devices":[{"name":"a"}]}`,
		"no devices":  `{"cdiVersion":"1.0.0","kind":"v.e/c"}`,
		"name":        `{"cdiVersion":"1.0.0","kind":"v.e/c","devices":[{"name":"a b"}]}`,
		"twice":       `{"cdiVersion":"1.0.0","kind":"v.e/c","devices":[{"name":"a"},{"name":"a"}]}`,
		"field":       `{"cdiVersion":"1.0.0","kind":"v.e/c","devices":[{"name":"a","colour":1}]}`,
		"hook":        `{"cdiVersion":"1.0.0","kind":"v.e/c","devices":[{"name":"a","containerEdits":{"hooks":[{"hookName":"later","path":"/x"}]}}]}`,
		"node":        `{"cdiVersion":"1.0.0","kind":"v.e/c","devices":[{"name":"a","containerEdits":{"deviceNodes":[{"path":"/x","type":"z"}]}}]}`,
		"permissions": `{"cdiVersion":"1.0.0","kind":"v.e/c","devices":[{"name":"a","containerEdits":{"deviceNodes":[{"path":"/x","permissions":"q"}]}}]}`,
		"mount":       `{"cdiVersion":"1.0.0","kind":"v.e/c","devices":[{"name":"a","containerEdits":{"mounts":[{"hostPath":"/x"}]}}]}`,
		"env":         `{"cdiVersion":"1.0.0","kind":"v.e/c","devices":[{"name":"a","containerEdits":{"env":["X"]}}]}`,
		"yaml":        "a: [",
		"list":        "[1]",
	} {
		if _, err := parse([]byte(text)); errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sound))
	f.Add([]byte(`{"cdiVersion":"1.0.0","kind":"v.e/c","devices":[{"name":"a"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := parse(text)
		if err != nil {
			return
		}
		s := &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{Resources: &specs.LinuxResources{}}}
		e := &Edits{list: []*edits{&got.Edits}}
		for i := range got.Devices {
			e.list = append(e.list, &got.Devices[i].Edits)
		}
		_ = e.Apply(s, find) // it may refuse, but not panic
	})
}
