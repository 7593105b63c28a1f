package conformance

import "testing"

func TestCount(t *testing.T) {
	got := count("TAP version 13\nok 1 - one\n  ---\n  \"not ok 9\"\n  ...\nnot ok 2 - two\nok 3 # SKIP three\nok 4\n1..4\n")
	if want := (tally{2, 1, 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for name, e := range expectations(t) {
		if e.fails == 0 != (e.why == "") {
			t.Errorf("%s: a program that fails needs a reason, one that passes none", name)
		}
	}
}
