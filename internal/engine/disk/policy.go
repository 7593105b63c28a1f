package disk

import (
	"fmt"
	"strings"
	"time"
)

// Policy says when what is removed. Its zero value removes nothing.
type Policy struct {
	High, Low  int           // percent of the file system that are used; High 0: off
	KeepWithin time.Duration // what was used so lately stays
	Protect    []string      // labels, "key" or "key=value", of what stays
	DryRun     bool          // only tell
}

// On reports whether there is one.
func (p Policy) On() bool { return p.High > 0 }

// String is the policy in words, for info.
func (p Policy) String() string {
	if !p.On() {
		return "off"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "above %d %% used, down to %d %%", p.High, p.Low)
	if p.KeepWithin > 0 {
		fmt.Fprintf(&b, ", keeps what was used within %s", p.KeepWithin)
	}
	if len(p.Protect) > 0 {
		fmt.Fprintf(&b, ", keeps %s", strings.Join(p.Protect, ", "))
	}
	if p.DryRun {
		b.WriteString(" (dry run)")
	}
	return b.String()
}

// protected reports whether labels keep an object.
func (p Policy) protected(labels map[string]string) bool {
	for _, want := range p.Protect {
		k, v, exact := strings.Cut(want, "=")
		if have, ok := labels[k]; ok && (!exact || have == v) {
			return true
		}
	}
	return false
}
