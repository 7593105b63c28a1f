package arch

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// tested is what the tests of the tree can be named by.
type tested struct {
	functions map[string][]string // packages that have a test, fuzz target or benchmark of that name
	text      map[string]string   // the tests' source, by package
	scripts   []string            // of test/e2e
}

var function = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Z]\w*)\(`)

func tests(t *testing.T) tested {
	t.Helper()
	all := tested{functions: map[string][]string{}, text: map[string]string{}}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		switch script, found := strings.CutPrefix(rel, "test/e2e/testdata/"); {
		case d.IsDir() && (rel == "bin" || strings.HasPrefix(d.Name(), ".") && rel != "."):
			return fs.SkipDir
		case found && strings.HasSuffix(script, ".txt"):
			all.scripts = append(all.scripts, script, filepath.Base(script))
		case strings.HasSuffix(p, "_test.go") || strings.HasPrefix(rel, "test/harness/") && strings.HasSuffix(p, ".go"):
			raw, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			pkg := filepath.Dir(rel)
			all.text[pkg] += string(raw)
			for _, m := range function.FindAllStringSubmatch(string(raw), -1) {
				all.functions[m[1]] = append(all.functions[m[1]], pkg)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// packages resolves a package as documents name it, with or without "internal/".
func (all tested) packages(word string) []string {
	return slices.DeleteFunc([]string{word, "internal/" + word}, func(pkg string) bool { return all.text[pkg] == "" })
}

// in returns those packages that have the test, of these or, if there are none,
// of all. A name that ends in "…" or "(" is the beginning of several.
func (all tested) in(packages []string, name string) (found []string) {
	prefix := strings.TrimRight(name, "…(")
	for function, where := range all.functions {
		if function != name && (prefix == name || !strings.HasPrefix(function, prefix)) {
			continue
		}
		for _, pkg := range where {
			if len(packages) == 0 || slices.Contains(packages, pkg) {
				found = append(found, pkg)
			}
		}
	}
	return found
}

// part reports whether one of the packages has a string of that name, which a part
// of a test is called by, or a script. The engines and runtimes that tests are run
// with have their names from test/harness.
func (all tested) part(packages []string, name string) bool {
	return slices.Contains(all.scripts, name+".txt") || slices.ContainsFunc(append(packages, "test/harness"), func(pkg string) bool {
		return strings.Contains(all.text[pkg], `"`+name+`"`)
	})
}

var (
	// named is how documents name tests: a package, perhaps, then one test of it, or
	// more with commas between.
	named = regexp.MustCompile("(?:([a-z][a-z0-9/-]*)`? )?((?:Test|Fuzz|Benchmark)[A-Z][^ ,;:|`]*(?:, (?:Test|Fuzz|Benchmark)[A-Z][^ ,;:|`]*)*)")
	// oneOf is one of those: the test, and parts of it.
	oneOf = regexp.MustCompile(`^(\w+[…(]?)((?:/\w+)*)`)
	// script is one of test/e2e.
	script = regexp.MustCompile(`[a-z0-9]+\.txt\b`)
)

// wrong lists what a line of a document names that is not there.
func (all tested) wrong(line string) (missing []string, known int) {
	for _, m := range named.FindAllStringSubmatch(line, -1) {
		packages := all.packages(m[1])
		if strings.Contains(m[1], "/") && len(packages) == 0 {
			missing = append(missing, "package "+m[1])
			continue
		}
		for _, word := range strings.Split(m[2], ", ") {
			known++
			one := oneOf.FindStringSubmatch(word)
			where := all.in(packages, one[1])
			if len(where) == 0 {
				missing = append(missing, strings.TrimSpace(m[1]+" "+one[1]))
				continue
			}
			for _, part := range strings.FieldsFunc(one[2], func(r rune) bool { return r == '/' }) {
				if !all.part(where, part) {
					missing = append(missing, one[1]+"/"+part)
				}
			}
		}
	}
	if strings.Contains(line, "Test") || strings.Contains(line, "test/e2e") {
		for _, name := range script.FindAllString(line, -1) {
			if known++; !slices.Contains(all.scripts, name) {
				missing = append(missing, "test/e2e/testdata/"+name)
			}
		}
	}
	return missing, known
}

// TestDocuments: every test that a document names is there, in the package that the
// document says. Decisions (docs/adr) tell what was shown then, and the part on
// suites has tests of others.
func TestDocuments(t *testing.T) {
	documents, err := filepath.Glob(root + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	design, err := filepath.Glob(root + "/docs/design/*.md")
	if err != nil {
		t.Fatal(err)
	}
	documents = append(append(documents, design...), root+"/README.md", root+"/SPECIFICATION.md", root+"/SCOPE.md", root+"/ARCHITECTURE.md", root+"/CONTRIBUTING.md")
	all, sum := tests(t), 0
	for _, document := range documents {
		raw, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		n, others := 0, false
		for line := range strings.Lines(string(raw)) {
			n++
			if strings.HasPrefix(line, "<!-- ") { // what a run has made begins or ends
				others = strings.HasPrefix(line, "<!-- made by make conformance: suites")
			}
			if others {
				continue
			}
			missing, known := all.wrong(line)
			sum += known
			for _, name := range missing {
				t.Errorf("%s:%d: there is no %s", strings.TrimPrefix(document, root+"/"), n, name)
			}
		}
	}
	if sum < 300 {
		t.Errorf("only %d names were found in %d documents: they are written in another way", sum, len(documents))
	}
}

// TestDocumentsRot: what is not there is found.
func TestDocumentsRot(t *testing.T) {
	all := tests(t)
	for line, want := range map[string]string{
		"| a | `linux/cgroup` TestKill, TestGone; TestGroups/cpus |":      "linux/cgroup TestGone",
		"| a | `linux/cgroup` TestKill, TestGroups |":                     "linux/cgroup TestGroups",
		"| a | `linux/cgroups` TestKill |":                                "package linux/cgroups",
		"| a | cmd/lade-runtime TestShield; test/escape TestCompatible |": "test/escape TestCompatible",
		"| a | TestGroups/cpus, TestGroups/gone |":                        "TestGroups/gone",
		"| a | TestUserns, every script again; gone.txt |":                "test/e2e/testdata/gone.txt",
		"| a | `supervisor/server` TestForeign…, `internal/x` TestGone |": "package internal/x",
		"| a | `internal/layer` FuzzApply, FuzzGone |":                    "internal/layer FuzzGone",
		"`VM_ONLY='./test/e2e:TestStorage(Projects|Devicemapper)$'`":      "",
		"| a | TestPush here and in `test/e2e`; namespaces.txt: a word |": "",
	} {
		missing, _ := all.wrong(line)
		if got := strings.Join(missing, "; "); got != want {
			t.Errorf("%s\nmissing %q, want %q", line, got, want)
		}
	}
}
