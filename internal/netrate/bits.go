package netrate

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"lade/internal/errdefs"
)

// Bits is a rate in bits per second. 0 is no limit.
type Bits int64

// The least and the greatest rate that can be asked for. Below, a full packet
// takes longer than a second; above, no interface of a container gets.
const (
	Min Bits = 8_000
	Max Bits = 1_000_000_000_000
)

// scales are what may follow a number, the largest first.
var scales = []struct {
	letter string
	bits   Bits
}{{"t", 1e12}, {"g", 1e9}, {"m", 1e6}, {"k", 1e3}, {"", 1}}

// Parse reads a rate: a number, a unit of k, m, g or t, and "bit" or nothing:
// "100mbit", "1.5g", "64000". "0" is no limit. Errors: Invalid.
func Parse(s string) (Bits, error) {
	number := strings.TrimSuffix(strings.ToLower(strings.TrimSpace(s)), "bit")
	unit := Bits(1)
	for _, u := range scales {
		if rest, ok := strings.CutSuffix(number, u.letter); ok {
			number, unit = rest, u.bits
			break
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || strings.Trim(number, "0123456789.") != "" {
		return 0, errdefs.Invalidf("invalid network rate %q: a number of bits per second is needed, as in 100mbit, 1.5g or 64000", s)
	}
	b := Bits(math.Round(min(v*float64(unit), float64(Max)+1)))
	return b, b.check(s)
}

// check refuses what no interface can be limited to.
func (b Bits) check(said string) error {
	if b != 0 && (b < Min || b > Max) {
		return errdefs.Invalidf("invalid network rate %q: it must be between %s and %s, or 0 for no limit", said, Min, Max)
	}
	return nil
}

// String returns what Parse reads, with the largest unit that divides it.
func (b Bits) String() string {
	for _, u := range scales {
		if b != 0 && b%u.bits == 0 {
			return strconv.FormatInt(int64(b/u.bits), 10) + u.letter + "bit"
		}
	}
	return "0"
}

// Bytes returns the rate in bytes per second, rounded down.
func (b Bits) Bytes() uint64 { return uint64(b) / 8 }

// Set is Parse for flags.
func (b *Bits) Set(s string) (err error) {
	*b, err = Parse(s)
	return err
}

// Type is what usage shows as the kind of value.
func (b *Bits) Type() string { return "rate" }

// UnmarshalJSON accepts a number of bits per second, and a string as Parse does.
// Errors: Invalid.
func (b *Bits) UnmarshalJSON(raw []byte) error {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		s = string(raw)
	}
	return b.Set(s)
}
