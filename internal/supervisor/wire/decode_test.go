package wire

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"reflect"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// startText is a request as laded sends it.
func startText(t testing.TB) []byte {
	t.Helper()
	raw, err := os.ReadFile("../server/testdata/start.json")
	if err != nil {
		t.Fatal(err)
	}
	var m Start
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	if raw, err = json.Marshal(&m); err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestDecodeStart(t *testing.T) {
	body := startText(t)
	var got, want Start
	if !startShape().Quick(body, &got) {
		t.Error("it takes the slow way")
	}
	if err := json.Unmarshal(body, &want); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\n%+v, %v", got, want, err)
	}
	score, soft := -500, uint64(1<<63)
	for _, m := range []any{
		&Exec{ID: "a", ExecID: "b", Process: &specs.Process{Args: []string{"<a&b>\n", "ä\"\\", ""}, Env: []string{}, Terminal: true, OOMScoreAdj: &score}},
		&Start{Spec: &specs.Spec{
			Annotations: map[string]string{"k\n": "v"}, Hooks: &specs.Hooks{}, Windows: &specs.Windows{LayerFolders: []string{"}"}},
			Process: &specs.Process{Rlimits: []specs.POSIXRlimit{{Type: "x", Soft: soft}}, User: specs.User{AdditionalGids: []uint32{1, 1<<32 - 1}}},
			Linux: &specs.Linux{Resources: &specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{}, Unified: map[string]string{}},
				Devices: []specs.LinuxDevice{{FileMode: new(os.FileMode), Major: -1}}},
		}, Attach: []Attach{{Stream: 3, DetachKeys: []byte{16, 17}}, {}},
			Resolver: &Resolver{Networks: []ResolverNetwork{{Network: "n", Links: map[string]string{"a": "b"}}, {}}, Servers: []string{"fd00::1"}, Host: true}},
	} {
		body, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		got, want := reflect.New(reflect.TypeOf(m).Elem()).Interface(), reflect.New(reflect.TypeOf(m).Elem()).Interface()
		if err := unmarshal(body, got); err != nil {
			t.Error(err)
		}
		if err := json.Unmarshal(body, want); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", body, got, err)
		}
	}
}

// TestDecodeDamaged breaks and changes messages: what the quick way takes must
// be what encoding/json makes of it.
func TestDecodeDamaged(t *testing.T) {
	body := startText(t)
	r := rand.New(rand.NewPCG(1, 2))
	taken := 0
	for range 5000 {
		b := bytes.Clone(body)
		for range 1 + r.IntN(3) {
			at := r.IntN(len(b))
			switch r.IntN(3) {
			case 0:
				b[at] = []byte(`"{}[],:\0123456789-.etn ` + "\x00\xff")[r.IntN(25)]
			case 1:
				b = append(b[:at], b[min(len(b), at+1+r.IntN(4)):]...)
			case 2:
				b = append(b[:at:at], append([]byte(`{},[]:"`[r.IntN(7):]), b[at:]...)...)
			}
			if len(b) == 0 {
				break
			}
		}
		checkQuick(t, b, &taken)
	}
	if taken == 0 {
		t.Error("none was good")
	}
}

func checkQuick(t *testing.T, b []byte, taken *int) {
	t.Helper()
	var got, want Start
	if !startShape().Quick(b, &got) {
		return
	}
	*taken++
	if err := json.Unmarshal(b, &want); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%v\n%s\n%+v\n%+v", err, b, got, want)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(startText(f))
	f.Fuzz(func(t *testing.T, b []byte) { checkQuick(t, b, new(int)) })
}

func BenchmarkDecodeStart(b *testing.B) {
	body := startText(b)
	b.ReportAllocs()
	for b.Loop() {
		var m Start
		if err := unmarshal(body, &m); err != nil {
			b.Fatal(err)
		}
	}
}
