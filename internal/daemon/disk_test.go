package daemon

import (
	"strings"
	"testing"
	"time"
)

// TestDiskPolicy reads the option "disk": what is not said, and what cannot be.
func TestDiskPolicy(t *testing.T) {
	var d Disk
	if err := (diskPolicy{&d}).UnmarshalJSON([]byte(`{"high-water":"85%","keep-used-within":"72h","protect-labels":["keep","a=b"],"dry-run":true}`)); err != nil {
		t.Fatal(err)
	}
	if p := d.policy(); p.High != 85 || p.Low != 75 || p.KeepWithin != 72*time.Hour || len(p.Protect) != 2 || !p.DryRun ||
		p.String() != "above 85 % used, down to 75 %, keeps what was used within 72h0m0s, keeps keep, a=b (dry run)" {
		t.Errorf("%+v %s", p, p)
	}
	for text, want := range map[string]string{
		`{}`:                               "high-water is missing",
		`{"high-water":0}`:                 "want a percentage",
		`{"high-water":"x%"}`:              "want a percentage",
		`{"high-water":50,"low-water":50}`: "must be below",
		`{"high-water":50,"low-watr":40}`:  "unknown field",
		`{"high-water":50,"keep-used-within":"3 days"}`: "want a duration",
		`{"high-water":50,"protect-labels":["=x"]}`:     "invalid label",
	} {
		was := d
		if err := (diskPolicy{&d}).UnmarshalJSON([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
		if d.High != was.High {
			t.Errorf("%s changed something", text)
		}
	}
}
