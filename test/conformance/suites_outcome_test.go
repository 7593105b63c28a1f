package conformance

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// outcomes are those of tests: PASS, FAIL or SKIP by name. Of a test that has
// others in it only these are there.
type outcomes map[string]string

func (o outcomes) add(more outcomes) { maps.Copy(o, more) }

// tally counts them.
func (o outcomes) tally() (n tally) {
	for _, word := range o {
		switch word {
		case "PASS":
			n.pass++
		case "SKIP":
			n.skip++
		default:
			n.fail++
		}
	}
	return n
}

var (
	began = regexp.MustCompile(`(?m)^=== RUN +(\S+)$`)
	ended = regexp.MustCompile(`(?m)^\s*--- (PASS|FAIL|SKIP): (\S+) \(`)
)

// readOutcomes reads what `go test -v` prints of a package, whose name goes before
// those of its tests. What began and did not end has failed: it was running when
// its program ended.
func readOutcomes(pkg, out string) outcomes {
	got := outcomes{}
	for _, m := range began.FindAllStringSubmatch(out, -1) {
		got[pkg+"."+m[1]] = "FAIL"
	}
	for _, m := range ended.FindAllStringSubmatch(out, -1) {
		got[pkg+"."+m[2]] = m[1]
	}
	// A test that failed although those in it passed stays.
	failed := map[string]bool{}
	for name, word := range got {
		if i := strings.LastIndexByte(name, '/'); i > 0 && word == "FAIL" {
			failed[name[:i]] = true
		}
	}
	for name := range maps.Clone(got) {
		for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name[:i], '/') {
			if above := name[:i]; got[above] != "FAIL" || failed[above] {
				delete(got, above)
			}
		}
	}
	return got
}

// known is why tests of a suite cannot pass: a reason by name, of a test or of
// all that are in it.
type known map[string]string

// readKnown reads testdata/suites: reasons at the margin, each followed by the
// names of its tests.
func readKnown(t *testing.T, suite string) known {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "suites", suite+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	all, why := known{}, ""
	for line := range strings.Lines(string(b)) {
		name, isName := strings.CutPrefix(strings.TrimRight(line, "\n"), "\t")
		switch {
		case isName && all[name] != "":
			t.Errorf("%s is known twice", name)
		case isName:
			all[name] = why
		case name != "":
			why = name
		}
	}
	return all
}

// reason returns why a test cannot pass, or "".
func (k known) reason(name string) string {
	for {
		if why := k[name]; why != "" {
			return why
		}
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return ""
		}
		name = name[:i]
	}
}

// judge fails for what fails without a reason.
func (k known) judge(t *testing.T, got outcomes) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(got)) {
		switch why := k.reason(name); {
		case got[name] == "FAIL" && why == "":
			t.Errorf("%s fails", name)
		case got[name] == "PASS" && k[name] != "":
			t.Logf("%s passes now: %s", name, why)
		}
	}
}

// verdicts are what is published of suites.
type verdicts struct {
	rows [][]string
	text strings.Builder
}

func (v *verdicts) add(s upstream, got outcomes, k known) {
	n := got.tally()
	v.rows = append(v.rows, []string{s.name, strings.TrimSuffix(strings.TrimPrefix(s.source.version, "v"), "+incompatible"), fmt.Sprint(n.pass), fmt.Sprint(n.fail), fmt.Sprint(n.skip)})
	why := map[string][]string{}
	for name, word := range got {
		if word == "FAIL" {
			reason := cmp.Or(k.reason(name), "not explained")
			why[reason] = append(why[reason], "`"+name+"`")
		}
	}
	if len(why) == 0 {
		return
	}
	fmt.Fprintf(&v.text, "\nWhat fails of %s:\n\n", s.name)
	for _, reason := range slices.Sorted(maps.Keys(why)) {
		slices.Sort(why[reason])
		fmt.Fprintf(&v.text, "* %s: %s\n", reason, strings.Join(why[reason], ", "))
	}
}

// publish puts them into the page.
func (v *verdicts) publish(t *testing.T, page string) {
	t.Helper()
	if len(v.rows) == 0 {
		return
	}
	section(t, page, "suites", func(string) string {
		return table([]string{"suite", "version", "passed", "failed", "skipped"}, v.rows) + v.text.String()
	})
}
