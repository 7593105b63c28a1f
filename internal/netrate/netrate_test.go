package netrate

import (
	"encoding/json"
	"testing"

	"lade/internal/errdefs"
)

func TestParse(t *testing.T) {
	for s, want := range map[string]Bits{
		"0": 0, "0bit": 0, "8000": 8000, "64k": 64_000, "64kbit": 64_000, "100mbit": 100_000_000, "100Mbit": 100_000_000, " 1.5g ": 1_500_000_000,
		"1gbit": 1_000_000_000, "1T": Max, "12345bit": 12345, "0.5mbit": 500_000,
	} {
		got, err := Parse(s)
		if err != nil || got != want {
			t.Errorf("%q: %d, %v", s, got, err)
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Errorf("%q: read back from %s as %d, %v", s, got, again, err)
		}
	}
	for _, s := range []string{"", "bit", "k", "mbit", "x", "-1", "-1mbit", "1e6", "1kk", "10mbps", "10 mb", "1..2", "inf", "nan", "0x10", "7999", "1bit", "1001g", "9999999999999999999999", "1_000k", "+5m"} {
		if got, err := Parse(s); errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("%q: %d, %v", s, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("100mbit")
	f.Add("1.5g")
	f.Fuzz(func(t *testing.T, s string) {
		b, err := Parse(s)
		if err != nil {
			return
		}
		if again, err := Parse(b.String()); err != nil || again != b {
			t.Errorf("%q is %d, and read back from %s %d, %v", s, b, b, again, err)
		}
	})
}

func TestJSON(t *testing.T) {
	var a Asked
	if err := json.Unmarshal([]byte(`{"NetRateIn":1000000,"NetRateOut":"10mbit","NetBurst":65536}`), &a); err != nil {
		t.Fatal(err)
	}
	if out, err := json.Marshal(a); err != nil || string(out) != `{"NetRateIn":1000000,"NetRateOut":10000000,"NetBurst":65536}` {
		t.Errorf("%s, %v", out, err)
	}
	for _, bad := range []string{`{"NetRateIn":-1}`, `{"NetRateIn":1}`, `{"NetRateIn":{}}`, `{"NetRateIn":"fast"}`, `{"NetRateIn":1e400}`, `{"NetBurst":"x"}`} {
		if err := json.Unmarshal([]byte(bad), &a); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
	if out, err := json.Marshal(Asked{}); err != nil || string(out) != "{}" {
		t.Errorf("%s, %v", out, err)
	}
}

func TestAsked(t *testing.T) {
	network := Limits{In: 5e6, Out: 6e6, Burst: 7e4}
	if got := (Asked{}).Limits(network); got != network {
		t.Errorf("nothing asked: %v", got)
	}
	a, err := FromAnnotations(map[string]string{InName: "1mbit", OutName: "0", "other": "x"})
	if err != nil {
		t.Fatal(err)
	}
	if got := a.Limits(network); got != (Limits{In: 1e6, Burst: 7e4}) {
		t.Errorf("one way asked, the other without limit: %v", got)
	}
	b, err := FromAnnotations(map[string]string{BurstName: "64k"})
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Over(a).Limits(network); got != (Limits{In: 1e6, Burst: 64 << 10}) {
		t.Errorf("burst added: %v", got)
	}
	if b.Any() || !a.Any() || !network.Any() || (Limits{Burst: 1}).Any() {
		t.Error("Any")
	}
	for name, value := range map[string]string{InName: "fast", OutName: "", BurstName: "-1"} {
		if _, err := FromAnnotations(map[string]string{name: value}); errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, l := range []Limits{{}, {In: Min}, {Out: Max}, {In: 1e6, Burst: 1518}, {Burst: 1 << 30}} {
		if err := l.Check(1500); err != nil {
			t.Errorf("%v: %v", l, err)
		}
	}
	for _, l := range []Limits{{In: 1}, {Out: -1}, {In: Max + 1}, {Burst: -1}, {Burst: 1517}, {Burst: 1 << 32}} {
		if err := l.Check(1500); errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("%v: %v", l, err)
		}
	}
}
