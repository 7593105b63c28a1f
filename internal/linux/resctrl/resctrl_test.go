package resctrl

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/sys"
)

// fake is a directory in which mkdir(2) makes what the kernel makes.
func fake(t *testing.T) FS {
	t.Helper()
	dir := t.TempDir()
	fill := func(p string) error {
		return errors.Join(os.MkdirAll(p+"/mon_groups", 0o755), os.WriteFile(p+"/tasks", nil, 0o644),
			os.WriteFile(p+"/schemata", []byte("    MB:0=100\n    L3:0=0ff;1=0ff\n"), 0o644))
	}
	if err := fill(dir); err != nil {
		t.Fatal(err)
	}
	f, err := At(dir)
	if err != nil {
		t.Fatal(err)
	}
	f.mkdir = func(p string) error {
		if err := os.Mkdir(p, 0o755); err != nil {
			return err
		}
		return fill(p)
	}
	return f
}

func TestCreate(t *testing.T) {
	f := fake(t)
	r := &specs.LinuxIntelRdt{L3CacheSchema: "L3:0=f", MemBwSchema: "MB:0=20", EnableMonitoring: true}
	tasks, err := f.Create("c1", r)
	if err != nil || len(tasks) != 2 {
		t.Fatal(tasks, err)
	}
	for _, fd := range tasks {
		if _, err := unix.Write(fd, []byte("0")); err != nil {
			t.Error(err)
		}
	}
	sys.CloseAll(tasks...)
	for file, want := range map[string]string{"c1/schemata": "L3:0=f\nMB:0=20\n", "c1/tasks": "0", "c1/mon_groups/c1/tasks": "0"} {
		if b, err := os.ReadFile(filepath.Join(f.dir, file)); err != nil || string(b) != want {
			t.Errorf("%s: %q %v", file, b, err)
		}
	}
	if _, err := f.Create("c1", r); errdefs.KindOf(err) != errdefs.Conflict {
		t.Errorf("again: %v", err)
	}
	if own := Own("c1", r); !slices.Equal(own, []string{"c1/mon_groups/c1", "c1"}) {
		t.Error(own)
	}
	if err := Remove(f.dir, []string{"c1/mon_groups/c1/mon_groups", "nothing"}); err != nil {
		t.Error(err)
	}
}

func TestClass(t *testing.T) {
	f := fake(t)
	gold := &specs.LinuxIntelRdt{ClosID: "gold", Schemata: []string{"L3:0=ff;1=0ff"}}
	for name, c := range map[string]struct {
		r    *specs.LinuxIntelRdt
		kind errdefs.Kind
	}{
		"a class that there must be":  {&specs.LinuxIntelRdt{ClosID: "silver"}, errdefs.NotFound},
		"a path":                      {&specs.LinuxIntelRdt{ClosID: "../x"}, errdefs.Invalid},
		"the kernel's own directory":  {&specs.LinuxIntelRdt{ClosID: "info"}, errdefs.Invalid},
		"a line without a resource":   {&specs.LinuxIntelRdt{Schemata: []string{"0=1"}}, errdefs.Invalid},
		"two lines in one":            {&specs.LinuxIntelRdt{Schemata: []string{"L3:0=1\nMB:0=1"}}, errdefs.Invalid},
		"the root with other numbers": {&specs.LinuxIntelRdt{ClosID: "/", Schemata: []string{"L3:0=1"}}, errdefs.Conflict},
	} {
		if tasks, err := f.Create("c", c.r); errdefs.KindOf(err) != c.kind || len(tasks) != 0 {
			t.Errorf("%s: %v %v", name, tasks, err)
		}
	}
	if left, err := os.ReadDir(f.dir); err != nil || len(left) != 3 {
		t.Errorf("left: %v %v", left, err)
	}
	for range 2 { // the second container finds the class
		tasks, err := f.Create("c", gold)
		if err != nil || len(tasks) != 1 {
			t.Fatal(err)
		}
		sys.CloseAll(tasks...)
	}
	if own := Own("c", gold); len(own) != 0 {
		t.Errorf("the class is the container's: %v", own)
	}
	other := &specs.LinuxIntelRdt{ClosID: "gold", L3CacheSchema: "L3:0=1"}
	if _, err := f.Create("c", other); errdefs.KindOf(err) != errdefs.Conflict {
		t.Error(err)
	}
	both := &specs.LinuxIntelRdt{ClosID: "gold", L3CacheSchema: "L3:0=1;1=ff", Schemata: []string{"L3:0=ff"}}
	if tasks, err := f.Create("c", both); err != nil {
		t.Errorf("what is written last counts: %v", err)
	} else {
		sys.CloseAll(tasks...)
	}
	if _, err := At(t.TempDir()); errdefs.KindOf(err) != errdefs.Unavailable {
		t.Error(err)
	}
}

// TestOrder: schemata are written after those of the older fields.
func TestOrder(t *testing.T) {
	f := fake(t)
	tasks, err := f.Create("c", &specs.LinuxIntelRdt{L3CacheSchema: "L3:0=f", MemBwSchema: "MB:0=20", Schemata: []string{"L3:1=f", "L2:0=1"}})
	if err != nil {
		t.Fatal(err)
	}
	sys.CloseAll(tasks...)
	if b, err := os.ReadFile(filepath.Join(f.dir, "c/schemata")); err != nil || string(b) != "L3:0=f\nMB:0=20\nL3:1=f\nL2:0=1\n" {
		t.Errorf("%q %v", b, err)
	}
}

func TestChange(t *testing.T) {
	f := fake(t)
	own := &specs.LinuxIntelRdt{L3CacheSchema: "L3:0=f"}
	tasks, err := f.Create("c", own)
	if err != nil {
		t.Fatal(err)
	}
	sys.CloseAll(tasks...)
	if err := f.Change("c", own, &specs.LinuxIntelRdt{L3CacheSchema: "L3:0=1", MemBwSchema: "MB:0=50"}); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(filepath.Join(f.dir, "c/schemata")); err != nil || string(b) != "L3:0=1\nMB:0=50\n" {
		t.Errorf("%q %v", b, err)
	}
	for _, created := range []*specs.LinuxIntelRdt{nil, {ClosID: "gold"}, {ClosID: "/"}} {
		if err := f.Change("c", created, own); errdefs.KindOf(err) != errdefs.Conflict {
			t.Errorf("%+v: %v", created, err)
		}
	}
	if err := f.Change("c", own, &specs.LinuxIntelRdt{L3CacheSchema: "nonsense"}); errdefs.KindOf(err) != errdefs.Invalid {
		t.Error(err)
	}
}
