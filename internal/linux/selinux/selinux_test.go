package selinux

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/xattr"
	"lade/internal/need"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]Context{
		"system_u:system_r:container_t:s0:c1,c2":    {"system_u", "system_r", "container_t", "s0:c1,c2"},
		"u:r:t\x00":                                 {"u", "r", "t", ""},
		"u:r:t:s0-s0:c0.c1023":                      {"u", "r", "t", "s0-s0:c0.c1023"},
		"system_u:object_r:container_file_t:s0\x00": {"system_u", "object_r", "container_file_t", "s0"},
		"": {}, "kernel": {}, "u:r": {}, "u::t:s0": {}, "u:r:t:": {}, "u:r:t x:s0": {}, `u:r:t:s0",rw`: {},
	} {
		got, err := Parse(in)
		if got != want || (err == nil) != (want != Context{}) || err != nil && errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("%q: %+v, %v; want %+v", in, got, err, want)
		}
		if err == nil {
			if again, err := Parse(got.String()); again != got || err != nil {
				t.Errorf("%q: again %+v, %v", in, again, err)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("system_u:system_r:container_t:s0:c1,c2")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Parse(s)
		if err != nil {
			return
		}
		if again, err := Parse(c.String()); err != nil || again != c {
			t.Errorf("%q: %+v, then %+v, %v", s, c, again, err)
		}
	})
}

// TestNext: from any pair all others are reached, each once.
func TestNext(t *testing.T) {
	first := anyPair()
	seen := map[pair]bool{}
	for p := first; !seen[p]; p = p.next() {
		if seen[p] = true; p.low < 0 || p.low >= p.high || p.high >= categories {
			t.Fatal(p)
		}
	}
	if len(seen) != categories*(categories-1)/2 || !seen[reserved] {
		t.Errorf("%d pairs from %s", len(seen), first)
	}
}

func TestPairOf(t *testing.T) {
	for level, want := range map[string]pair{
		"s0:c7,c3": {3, 7}, "s15:c1,c1023": {1, 1023}, "s0": {}, "s0:c1": {}, "s0:c1,c1": {}, "s0:c1.c4": {}, "s0:c1,c2,c3": {},
		"s0:c1,c1024": {}, "s0:c01,c2": {}, "s0:c1,c+2": {}, "": {},
	} {
		if got, ok := pairOf(level); got != want || ok != (want != pair{}) {
			t.Errorf("%s: %v, %v, want %v", level, got, ok, want)
		}
	}
	if got, ok := pairOf("s0:" + reserved.String()); got != reserved || !ok {
		t.Errorf("%v, %v", got, ok)
	}
}

// TestLevels: no two get the same, until one has given it back.
func TestLevels(t *testing.T) {
	var l Levels
	l.Hold("s0:c5,c4") // a container's that was there before
	l.Hold("s0:c4,c5") // and that of one which shares its namespaces
	seen := map[string]bool{"s0:c4,c5": true, "s0:" + reserved.String(): true}
	for range 5000 {
		level, err := l.Allocate("s0")
		if err != nil || seen[level] {
			t.Fatalf("%q, %v", level, err)
		}
		seen[level] = true
	}
	l.Free("s0:c4,c5")
	if l.held[pair{4, 5}] != 1 {
		t.Error("free while somebody has it")
	}
	l.Free("s0:c4,c5")
	l.Free("s0:c4,c5")
	if len(l.held) != 5000 {
		t.Errorf("%d are held", len(l.held))
	}
	// All but one are taken: that one is found.
	full := Levels{held: map[pair]int{}}
	for p := anyPair(); full.held[p] == 0; p = p.next() {
		full.held[p] = 1
	}
	if _, err := full.Allocate("s0"); errdefs.KindOf(err) != errdefs.Exhausted {
		t.Errorf("nothing is free: %v", err)
	}
	full.Free("s0:c300,c7")
	if level, err := full.Allocate("s1"); level != "s1:c7,c300" || err != nil {
		t.Errorf("%q, %v", level, err)
	}
}

func TestLoadDefaults(t *testing.T) {
	write := func(dir, name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if _, err := loadDefaults(dir); errdefs.KindOf(err) != errdefs.NotFound {
		t.Errorf("no policy: %v", err)
	}
	write(dir, "config", "# SELINUXTYPE=none\nSELINUX=permissive\nSELINUXTYPE=default\n")
	write(dir, "default/contexts/lxc_contexts", `process = "system_u:system_r:container_t:s0"
content = "system_u:object_r:virt_var_lib_t:s0"
file = "system_u:object_r:container_file_t:s0"
`)
	d, err := loadDefaults(dir)
	if err != nil || d.Process.Type != "container_t" || d.File.String() != "system_u:object_r:container_file_t:s0" {
		t.Errorf("%+v, %v", d, err)
	}
	if got := d.Unconfined().String(); got != "system_u:object_r:container_file_t:s0:c1022,c1023" {
		t.Error(got)
	}
	write(dir, "default/contexts/lxc_contexts", "process = \"x\"\n")
	if _, err := loadDefaults(dir); errdefs.KindOf(err) != errdefs.Invalid {
		t.Errorf("no context: %v", err)
	}
}

func TestCheckRelabel(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/usr", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	for path, ok := range map[string]bool{
		"/": false, "/etc": false, "/usr/": false, "/var/lib/": false, "//usr/../usr": false, dir + "/link": false, "/home": false,
		dir: true, "/var/lib/x": true, "/etc/x": true, dir + "/no": true,
	} {
		if err := CheckRelabel(path); (err == nil) != ok || err != nil && errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestRelabel: everything below has the label, nothing that a link leads to.
// Without SELinux the kernel keeps the attribute for whoever has CAP_SYS_ADMIN.
func TestRelabel(t *testing.T) {
	need.Root(t)
	base := t.TempDir()
	dir, other := base+"/a", base+"/other"
	for _, d := range []string{dir + "/b/c", other} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{dir + "/b/f", dir + "/b/c/g", other + "/h"} {
		if err := os.WriteFile(f, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(other, dir+"/b/link"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, base+"/way"); err != nil {
		t.Fatal(err)
	}
	c := Context{"system_u", "object_r", "container_file_t", "s0"}
	if Enabled() {
		d, err := LoadDefaults()
		if err != nil {
			t.Fatal(err)
		}
		c = d.File
	}
	for range 2 {
		if err := Relabel(base+"/way", c); err != nil {
			t.Fatal(err)
		}
	}
	label := func(path string) string {
		var b [256]byte
		n, err := unix.Lgetxattr(path, attribute, b[:])
		if err != nil && !xattr.Absent(err) {
			t.Fatal(err)
		}
		return string(b[:max(n, 0)])
	}
	for _, p := range []string{dir, dir + "/b", dir + "/b/f", dir + "/b/c", dir + "/b/c/g", dir + "/b/link"} {
		if got := label(p); got != c.String()+"\x00" {
			t.Errorf("%s: %q", p, got)
		}
	}
	for _, p := range []string{base, other, other + "/h"} {
		if label(p) == c.String()+"\x00" {
			t.Errorf("%s was labelled", p)
		}
	}
	if err := Relabel(base+"/no", c); err == nil {
		t.Error("what is not there was labelled")
	}
}
