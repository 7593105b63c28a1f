package conformance

import "strings"

// tally counts the assertions of a program that speaks TAP.
type tally struct{ pass, fail, skip int }

func (t *tally) add(o tally) {
	t.pass += o.pass
	t.fail += o.fail
	t.skip += o.skip
}

// count reads the Test Anything Protocol, version 13: lines at the margin;
// what a test prints of its own is indented or quoted.
func count(output string) (t tally) {
	for line := range strings.Lines(output) {
		switch {
		case strings.HasPrefix(line, "not ok"):
			t.fail++
		case !strings.HasPrefix(line, "ok "):
		case strings.Contains(line, "# SKIP"):
			t.skip++
		default:
			t.pass++
		}
	}
	return t
}
