// Command sizes prints the largest files, functions, types and packages of the
// tree: a mirror, not a wall. What nears forty methods, twenty-five fields or
// four thousand lines does several jobs.
package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

type size struct {
	n    int
	what string
}

func main() {
	sizes := map[string][]size{}
	packages, methods := map[string]int{}, map[string]int{}
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && p != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "bin" || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return nil
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, p, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		lines := set.Position(f.FileEnd).Line
		dir := filepath.Dir(p)
		packages[dir] += lines
		sizes["file, lines"] = append(sizes["file, lines"], size{lines, p})
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			n := set.Position(fn.End()).Line - set.Position(fn.Pos()).Line + 1
			sizes["function, lines"] = append(sizes["function, lines"], size{n, p + ":" + fn.Name.Name})
			sizes["function, parameters"] = append(sizes["function, parameters"], size{fn.Type.Params.NumFields(), p + ":" + fn.Name.Name})
			if fn.Recv != nil {
				methods[dir+"."+receiver(fn.Recv.List[0].Type)]++
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if ts, ok := n.(*ast.TypeSpec); ok {
				if st, ok := ts.Type.(*ast.StructType); ok {
					sizes["type, fields"] = append(sizes["type, fields"], size{st.Fields.NumFields(), dir + "." + ts.Name.Name})
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for dir, n := range packages {
		sizes["package, lines"] = append(sizes["package, lines"], size{n, dir})
	}
	for t, n := range methods {
		sizes["type, methods"] = append(sizes["type, methods"], size{n, t})
	}
	for _, kind := range []string{"package, lines", "file, lines", "function, lines", "function, parameters", "type, methods", "type, fields"} {
		fmt.Println(kind)
		all := sizes[kind]
		slices.SortFunc(all, func(a, b size) int { return cmp.Or(b.n-a.n, cmp.Compare(a.what, b.what)) })
		for _, s := range all[:min(5, len(all))] {
			fmt.Printf("%8d  %s\n", s.n, s.what)
		}
	}
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return "?"
}
