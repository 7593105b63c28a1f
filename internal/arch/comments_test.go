package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// scope is what the files of one directory declare, tests included.
type scope struct {
	names   map[string]bool            // of the package
	members map[string]map[string]bool // fields and methods, by type
	open    map[string]bool            // types with members that another type gives them
}

func newScope() *scope {
	return &scope{map[string]bool{}, map[string]map[string]bool{}, map[string]bool{}}
}

// has reports whether the package, or one of its types, declares name.
func (s *scope) has(name string) bool {
	return s.names[name] || slices.ContainsFunc(slices.Collect(maps.Values(s.members)), func(m map[string]bool) bool { return m[name] })
}

func (s *scope) member(typ, name string) {
	if s.members[typ] == nil {
		s.members[typ] = map[string]bool{}
	}
	s.members[typ][name] = true
}

// typeName is the name of a type without pointer, package and parameters.
func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.IndexExpr:
		return typeName(e.X)
	case *ast.IndexListExpr:
		return typeName(e.X)
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.Ident:
		return e.Name
	}
	return ""
}

func (s *scope) addType(t *ast.TypeSpec) {
	name := t.Name.Name
	s.names[name] = true
	var fields *ast.FieldList
	switch x := t.Type.(type) {
	case *ast.StructType:
		fields = x.Fields
	case *ast.InterfaceType:
		fields = x.Methods
	default:
		s.open[name] = true
		return
	}
	for _, f := range fields.List {
		if len(f.Names) == 0 {
			s.open[name] = true
		}
		for _, n := range f.Names {
			s.member(name, n.Name)
		}
	}
}

func (s *scope) add(f *ast.File) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				s.names[d.Name.Name] = true
			} else {
				s.member(typeName(d.Recv.List[0].Type), d.Name.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					s.addType(spec)
				case *ast.ValueSpec:
					for _, n := range spec.Names {
						s.names[n.Name] = true
					}
				}
			}
		}
	}
}

// commented is a file, and where its comments are.
type commented struct {
	rel, dir string
	ast      *ast.File
	set      *token.FileSet
}

// tree is what comments can speak of.
type tree struct {
	files    []commented
	scopes   map[string]*scope   // by directory
	packages map[string][]*scope // by name
	words    map[string]bool     // identifiers, and what strings have of words
}

func newTree() *tree {
	return &tree{scopes: map[string]*scope{}, packages: map[string][]*scope{}, words: map[string]bool{}}
}

func (t *tree) add(rel string, src any) error {
	f := commented{rel: rel, dir: path.Dir(rel), set: token.NewFileSet()}
	var err error
	if f.ast, err = parser.ParseFile(f.set, filepath.Join(root, rel), src, parser.ParseComments|parser.SkipObjectResolution); err != nil {
		return err
	}
	t.files = append(t.files, f)
	s := t.scopes[f.dir]
	if s == nil {
		s = newScope()
		t.scopes[f.dir] = s
		name := strings.TrimSuffix(f.ast.Name.Name, "_test")
		t.packages[name] = append(t.packages[name], s)
	}
	s.add(f.ast)
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			t.words[n.Name] = true
		case *ast.BasicLit:
			for _, w := range word.FindAllString(n.Value, -1) {
				t.words[w] = true
			}
		}
		return true
	})
	return nil
}

var (
	word = regexp.MustCompile(`\w+`)
	// selector is "x.y" that is neither a path nor the name of a host.
	selector = regexp.MustCompile(`(?:^|[^\w./-])([A-Za-z]\w*)\.([A-Za-z_]\w*)`)
	camel    = regexp.MustCompile(`(?:^|[^\w./-])([a-z]+[A-Z]\w*)`)
)

// foreign are words written like identifiers that are the names of things, or
// of fields of the OCI's.
var foreign = []string{"cAdvisor", "eBPF", "eStargz", "gRPC", "gVisor", "disableOOMKiller", "valueTwo", "Process.Args"}

// imports reports whether a file imports somebody else's package by that name.
func (f *commented) imports(name string) bool {
	return slices.ContainsFunc(f.ast.Imports, func(im *ast.ImportSpec) bool {
		p := strings.Trim(im.Path.Value, `"`)
		return path.Base(p) == name && !strings.HasPrefix(p, module)
	})
}

// gone lists what a line of a comment names that is not there: a member of a type
// of the package, something of another package, an identifier of any.
func (t *tree) gone(f commented, text string) (missing []string) {
	own := t.scopes[f.dir]
	for _, m := range selector.FindAllStringSubmatch(text, -1) {
		x, y := m[1], m[2]
		switch {
		case own.members[x] != nil:
			if !own.members[x][y] && !own.open[x] && y != "go" {
				missing = append(missing, x+"."+y)
			}
		case own.names[x], !unicode.IsUpper(rune(y[0])), f.imports(x):
		case t.packages[x] != nil && !slices.ContainsFunc(t.packages[x], func(s *scope) bool { return s.has(y) }):
			missing = append(missing, x+"."+y)
		}
	}
	for _, m := range camel.FindAllStringSubmatch(text, -1) {
		if !t.words[m[1]] {
			missing = append(missing, m[1])
		}
	}
	return slices.DeleteFunc(missing, func(name string) bool { return slices.Contains(foreign, name) })
}

// misplaced reports that a comment which stands before one declaration begins with
// the name of another.
func (t *tree) misplaced(f commented, doc *ast.CommentGroup, name string) (other string) {
	if doc == nil {
		return ""
	}
	first := word.FindString(doc.Text())
	if first == name || !strings.HasPrefix(doc.Text(), first+" ") {
		return ""
	}
	if t.scopes[f.dir].has(first) && first != strings.ToLower(name) && unicode.IsLower(rune(first[0])) == unicode.IsLower(rune(name[0])) || camel.MatchString(first) {
		return first
	}
	return ""
}

// rotten lists what is wrong with the comments of a file.
func (t *tree) rotten(f commented) (out []string) {
	say := func(at token.Pos, format string, a ...any) {
		out = append(out, fmt.Sprintf("%s:%d: ", f.rel, f.set.Position(at).Line)+fmt.Sprintf(format, a...))
	}
	for _, g := range f.ast.Comments {
		for _, c := range g.List {
			for _, name := range t.gone(f, c.Text) {
				say(c.Pos(), "there is no %s", name)
			}
		}
	}
	for _, d := range f.ast.Decls {
		var doc *ast.CommentGroup
		var name string
		switch d := d.(type) {
		case *ast.FuncDecl:
			doc, name = d.Doc, d.Name.Name
		case *ast.GenDecl:
			if len(d.Specs) == 1 {
				if typ, ok := d.Specs[0].(*ast.TypeSpec); ok {
					doc, name = d.Doc, typ.Name.Name
				}
			}
		}
		if other := t.misplaced(f, doc, name); other != "" {
			say(doc.Pos(), "%s stands after the comment of %s", name, other)
		}
	}
	return out
}

// TestComments: what comments name is there, and those of declarations speak of
// these.
func TestComments(t *testing.T) {
	all := newTree()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && p != root && (d.Name() == "bin" || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(p, ".go"):
			return nil
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		return all.add(rel, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all.files {
		for _, wrong := range all.rotten(f) {
			t.Error(wrong)
		}
	}
}

// TestCommentsRot: what is not there is found.
func TestCommentsRot(t *testing.T) {
	all := newTree()
	for rel, src := range map[string]string{
		"internal/ants/ants.go": `package ants

// Hill is where ants live; see Hill.queen, Hill.king, Hill.Dig and hill.md.
type Hill struct{ queen int }

// Dig makes room as digDeeper does, by gVisor and gRPC; see bees.Hive, bees.Fly, bees.Nest.
func (h *Hill) Dig() { digOnce() }

// Dig makes room once.
func digOnce() {}

// Ant is one of ants.Hill; http.Nothing is not ours.
type Bee struct{}

type Ant struct{}
`,
		"internal/bees/bees.go": `package bees

type Hive struct{}

func (Hive) Fly() {}
`,
	} {
		if err := all.add(rel, src); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, f := range all.files {
		got = append(got, all.rotten(f)...)
	}
	want := []string{
		"internal/ants/ants.go:3: there is no Hill.king",
		"internal/ants/ants.go:6: there is no bees.Nest",
		"internal/ants/ants.go:6: there is no digDeeper",
		"internal/ants/ants.go:12: Bee stands after the comment of Ant",
	}
	if !slices.Equal(got, want) {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
