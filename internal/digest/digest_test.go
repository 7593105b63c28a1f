package digest

import (
	"strings"
	"testing"

	"lade/internal/errdefs"
)

func TestParse(t *testing.T) {
	good := FromBytes([]byte("x"))
	if d, err := Parse(string(good)); err != nil || d != good {
		t.Errorf("Parse(%q) = %q, %v", good, d, err)
	}
	for s, want := range map[string]errdefs.Kind{
		"": errdefs.Invalid, "sha256:": errdefs.Invalid, "sha256:zz": errdefs.Invalid, ":abc": errdefs.Invalid,
		strings.ToUpper(string(good)): errdefs.NotImplemented, "sha512:aa": errdefs.NotImplemented,
		"sha256:" + strings.Repeat("G", 64): errdefs.Invalid,
	} {
		if _, err := Parse(s); errdefs.KindOf(err) != want {
			t.Errorf("Parse(%q): %v, want %v", s, err, want)
		}
	}
}

func TestChain(t *testing.T) {
	a, b := DiffID(FromBytes([]byte("a"))), DiffID(FromBytes([]byte("b")))
	got := Chain([]DiffID{a, b})
	if got[0] != ChainID(a) || got[1] != ChainID(FromBytes([]byte(string(a)+" "+string(b)))) {
		t.Errorf("Chain = %v", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("sha256:" + strings.Repeat("0", 64))
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := Parse(s); err == nil && (string(d) != s || len(d.Hex()) != 64) {
			t.Errorf("Parse(%q) = %q", s, d)
		}
	})
}
