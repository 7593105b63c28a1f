package filters

import (
	"testing"

	"lade/internal/errdefs"
)

func TestParse(t *testing.T) {
	for _, s := range []string{`{"status":["exited"],"label":["a=1","b"]}`, `{"status":{"exited":true},"label":{"a=1":true,"b":true}}`} {
		a, err := Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		if !a.Exact("status", "exited") || a.Exact("status", "running") || !a.Exact("other", "x") {
			t.Errorf("%s: Exact", s)
		}
		if !a.Labels("label", map[string]string{"a": "1", "b": "2"}) || a.Labels("label", map[string]string{"a": "2", "b": ""}) {
			t.Errorf("%s: Labels", s)
		}
		if err := a.Validate("status"); errdefs.KindOf(err) != errdefs.Invalid || err.Error() != "invalid filter 'label'" {
			t.Errorf("%s: Validate: %v", s, err)
		}
	}
	if _, err := Parse("x"); errdefs.KindOf(err) != errdefs.Invalid {
		t.Errorf("Parse(x): %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`{"name":["^/a"]}`)
	f.Add(`{"name":{"a":true}}`)
	f.Fuzz(func(t *testing.T, s string) {
		a, err := Parse(s)
		if err == nil {
			a.Match("name", "x")
			a.Labels("label", nil)
		}
	})
}
