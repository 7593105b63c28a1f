package conformance

import (
	"maps"
	"testing"
)

func TestCount(t *testing.T) {
	got := count("TAP version 13\nok 1 - one\n  ---\n  \"not ok 9\"\n  ...\nnot ok 2 - two\nok 3 # SKIP three\nok 4\n1..4\n")
	if want := (tally{2, 1, 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for name, e := range expectations(t) {
		if (e.fails == 0 && !e.races) != (e.why == "") {
			t.Errorf("%s: a program that fails or races needs a reason, one that passes none", name)
		}
	}
}

func TestOutcomes(t *testing.T) {
	got := readOutcomes("p", "=== RUN   TestA\n=== RUN   TestA/x\n=== RUN   TestA/y\n--- FAIL: TestA (0.1s)\n    --- PASS: TestA/x (0.0s)\n    --- FAIL: TestA/y (0.0s)\n"+
		"=== RUN   TestB\n--- SKIP: TestB (0.0s)\n=== RUN   TestC\n=== RUN   TestC/x\n    --- PASS: TestC/x (0.0s)\n--- FAIL: TestC (0.0s)\n=== RUN   TestD\npanic: \n")
	want := outcomes{"p.TestA/x": "PASS", "p.TestA/y": "FAIL", "p.TestB": "SKIP", "p.TestC/x": "PASS", "p.TestC": "FAIL", "p.TestD": "FAIL"}
	if !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
	k := known{"p.TestA": "why"}
	if k.reason("p.TestA/y") != "why" || k.reason("p.TestB") != "" {
		t.Error(k)
	}
	for _, s := range suites {
		readKnown(t, s.name)
	}
}
