package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "lade/"
)

// rows lists every package, lowest first. A package imports packages of lower
// rows only, never of its own; "x/..." covers what is below x and is not named
// elsewhere.
var rows = [][]string{
	// words
	{"internal/errdefs", "internal/ids", "internal/trace", "internal/need", "internal/failpoint", "internal/arch/..."},
	{"internal/digest", "internal/filters", "internal/netrate", "internal/iprange", "internal/decode", "internal/filecopy", "internal/tarpass", "internal/tlsfile"},
	{"internal/reference", "internal/oci", "internal/publish", "internal/cdi"},
	// one kernel facility each
	{"internal/linux/sys", "internal/linux/netlink"},
	{"internal/linux/idmap"},
	{"internal/linux/..."},
	{"internal/linux/systemd", "internal/linux/selinux"}, // of control groups; of extended attributes
	// mechanisms
	{"internal/store", "internal/content", "internal/layer", "internal/events", "internal/logs", "internal/supervisor/wire", "internal/program", "internal/dns", "internal/plugin"},
	// domains
	{"internal/snapshot", "internal/network/...", "internal/logs/...", "internal/volume/remote"},
	{"internal/snapshot/...", "internal/image", "internal/network", "internal/volume", "internal/secret", "internal/supervisor", "internal/runtime"},
	{"internal/image/...", "internal/registry", "internal/builtin", "internal/runtime/bundle"},
	{"internal/runtime/external", "internal/runtime/lxc"},
	// composites
	{"internal/build", "internal/supervisor/server", "internal/engine/spec"},
	// use cases
	{"internal/engine/container"},
	{"internal/engine/..."},
	{"internal/engine"},
	// faces
	{"internal/server/..."},
	{"internal/server"},
	{"internal/daemon"},
	// the client, which shares only words with the rest
	{"client", "packaging"},
	{"internal/cli/terminal", "internal/cli/opt", "internal/cli/format"},
	{"internal/cli/..."},
	{"internal/cli/app"},
	{"internal/cli/command/...", "internal/cli/complete"},
	{"internal/cli/command/system"},
	{"internal/cli"},
	{"cmd/lade-build/unpack"}, // a module of its own, for what BuildKit needs
	{"cmd/lade-build/worker", "cmd/lade-build/classic", "cmd/lade-build/command"},
	{"cmd/...", "internal/builtin/pack", "internal/cli/manpages"},
}

// never lists what a binary must not link, even indirectly.
var never = map[string][]string{
	"cmd/lade":            {"github.com/moby/buildkit/...", "lade/internal/linux/...", "lade/internal/engine/...", "lade/internal/store", "lade/internal/snapshot/..."},
	"cmd/laded":           {"github.com/moby/buildkit/...", "github.com/containerd/containerd/...", "lade/internal/runtime", "lade/internal/program", "text/template", "html/template"},
	"cmd/lade-supervisor": {"net", "github.com/godbus/...", "net/http", "crypto/tls", "encoding/gob", "text/template", "lade/internal/store", "lade/internal/engine/..."},
	"cmd/lade-runtime":    {"net/http", "crypto/tls", "encoding/gob", "text/template", "lade/internal/store", "lade/internal/engine/..."},
	"cmd/lade-gate":       {"net/http", "crypto/tls", "encoding/gob", "regexp", "lade/internal/store", "lade/internal/network", "lade/internal/engine/..."},
	"cmd/lade-build":      {"lade/internal/engine/...", "lade/internal/store", "lade/internal/snapshot/...", "lade/internal/supervisor/...", "lade/internal/program"},
	"cmd/lade-init":       {"net", "fmt", "encoding/json"},
}

// vague names say nothing of what a package provides.
var vague = []string{"util", "utils", "common", "helper", "helpers", "misc", "manager", "types", "base"}

type source struct {
	rel, dir string
	ast      *ast.File
}

func sources(t *testing.T) (all []source) {
	t.Helper()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if b := d.Name(); p != root && (b == "testdata" || b == "test" || b == "bin" || strings.HasPrefix(b, ".")) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		all = append(all, source{rel, path.Dir(rel), f})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// covers reports whether pattern names pkg, or, ending in "/...", its parent.
func covers(pattern, pkg string) bool {
	dir, tree := strings.CutSuffix(pattern, "/...")
	return pkg == dir || tree && strings.HasPrefix(pkg, dir+"/")
}

// row returns the row that names pkg exactly, else the last one whose pattern
// covers it, else -1.
func row(pkg string) int {
	found := -1
	for i, r := range rows {
		if slices.Contains(r, pkg) {
			return i
		}
		if slices.ContainsFunc(r, func(p string) bool { return strings.HasSuffix(p, "/...") && covers(p, pkg) }) {
			found = i
		}
	}
	return found
}

func TestImports(t *testing.T) {
	for _, s := range sources(t) {
		from := row(s.dir)
		if strings.HasSuffix(s.dir, "test") { // conformance suites, test servers
			continue
		}
		if from < 0 {
			t.Errorf("%s: the package is in no row", s.rel)
			continue
		}
		for _, im := range s.ast.Imports {
			p, err := strconv.Unquote(im.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			to, ours := strings.CutPrefix(p, module)
			if !ours {
				continue
			}
			if r := row(to); r < 0 || r >= from {
				t.Errorf("%s (row %d) must not import %s (row %d)", s.rel, from, to, r)
			}
		}
	}
}

func TestNever(t *testing.T) {
	for cmd, bad := range never {
		t.Run(path.Base(cmd), func(t *testing.T) {
			t.Parallel()
			list := exec.CommandContext(t.Context(), "go", "list", "-deps", module+cmd)
			list.Dir = filepath.Join(root, cmd) // which may be a module of its own
			out, err := list.Output()
			if err != nil {
				t.Fatal(err)
			}
			for dep := range strings.FieldsSeq(string(out)) {
				for _, pattern := range bad {
					if covers(pattern, dep) {
						t.Errorf("links %s", dep)
					}
				}
			}
		})
	}
}

func TestPackages(t *testing.T) {
	docs := map[string]int{}
	for _, s := range sources(t) {
		docs[s.dir] += 0
		if s.ast.Doc != nil {
			docs[s.dir]++
		}
	}
	for dir, n := range docs {
		if n != 1 {
			t.Errorf("%s: %d package comments, want one", dir, n)
		}
		if slices.Contains(vague, path.Base(dir)) {
			t.Errorf("%s: a package is named for what it provides", dir)
		}
	}
}
