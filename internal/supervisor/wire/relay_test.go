package wire

import (
	"bytes"
	"reflect"
	"testing"
)

func TestRelayHello(t *testing.T) {
	want := &RelayHello{Addresses: []string{"127.0.0.1:6514"}, TLS: TLS{Name: "logs.example", CA: "/ca.pem"}}
	b, err := want.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for have := 0; have < len(b); { // read as it says how much is missing
		got, more, err := ParseRelayHello(b[:have])
		if got != nil || err != nil || more <= 0 || have+more > len(b) {
			t.Fatalf("%d bytes: %+v, %d more, %v", have, got, more, err)
		}
		have += more
	}
	if got, more, err := ParseRelayHello(b); !reflect.DeepEqual(got, want) || more != 0 || err != nil {
		t.Errorf("%+v, %d, %v", got, more, err)
	}
	if _, _, err := ParseRelayHello([]byte("\xff\xff\xff\xff")); err == nil {
		t.Error("4 GB were taken")
	}
}

func FuzzParseRelay(f *testing.F) {
	f.Add(AppendRelay(nil, RelayAck, make([]byte, 8)))
	f.Add(AppendRelay(AppendRelay(nil, RelayError, []byte("no")), RelayData, nil))
	f.Add([]byte("d\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var back []byte
		rest := b
		for {
			kind, data, used, err := ParseRelay(rest)
			if err != nil || used == 0 {
				break
			}
			back = AppendRelay(back, kind, data)
			rest = rest[used:]
		}
		if !bytes.Equal(append(back, rest...), b) {
			t.Errorf("%x became %x", b, back)
		}
		_, _, _ = ParseRelayHello(b)
	})
}
