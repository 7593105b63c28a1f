package daemon

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"lade/internal/engine/disk"
	"lade/internal/errdefs"
)

// Percent is a share from 1 to 99, written as a number or a text such as "85%".
type Percent int

// UnmarshalJSON reads either form. Errors: Invalid.
func (p *Percent) UnmarshalJSON(raw []byte) error {
	s := strings.TrimSuffix(strings.Trim(string(raw), `"`), "%")
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil || n < 1 || n > 99 {
		return errdefs.Invalidf("invalid share %s: want a percentage from 1 to 99", raw)
	}
	*p = Percent(n)
	return nil
}

// lowBelow is how far the low water mark is below the high one unless said
// otherwise.
const lowBelow = 10

// diskPolicy is the option "disk".
type diskPolicy struct{ d *Disk }

// UnmarshalJSON reads the object and checks it. Errors: Invalid.
func (p diskPolicy) UnmarshalJSON(raw []byte) error {
	var said struct {
		High    *Percent `json:"high-water"`
		Low     *Percent `json:"low-water"`
		Keep    string   `json:"keep-used-within"`
		Protect []string `json:"protect-labels"`
		DryRun  bool     `json:"dry-run"`
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&said); err != nil {
		return err
	}
	out := Disk{Protect: said.Protect, DryRun: said.DryRun}
	if said.High == nil {
		return errdefs.Invalidf("high-water is missing")
	}
	out.High = *said.High
	out.Low = max(out.High-lowBelow, 1)
	if said.Low != nil {
		out.Low = *said.Low
	}
	if out.Low >= out.High {
		return errdefs.Invalidf("low-water (%d) must be below high-water (%d)", out.Low, out.High)
	}
	if said.Keep != "" {
		var err error
		if out.Keep, err = time.ParseDuration(said.Keep); err != nil || out.Keep < 0 {
			return errdefs.Invalidf("invalid keep-used-within %q: want a duration such as 72h", said.Keep)
		}
	}
	for _, l := range said.Protect {
		if k, _, _ := strings.Cut(l, "="); k == "" {
			return errdefs.Invalidf("invalid label %q in protect-labels", l)
		}
	}
	*p.d = out
	return nil
}

// String says the policy as info does.
func (p diskPolicy) String() string { return p.d.policy().String() }

// policy is what the engine is told.
func (d *Disk) policy() disk.Policy {
	return disk.Policy{High: int(d.High), Low: int(d.Low), KeepWithin: d.Keep, Protect: d.Protect, DryRun: d.DryRun}
}
