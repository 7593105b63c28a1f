package server

import (
	"bytes"
	"testing"
)

func FuzzDetach(f *testing.F) {
	f.Add([]byte("aab"), []byte("xaaabz"), uint8(2))
	f.Add([]byte{16, 17}, []byte{16, 16, 17}, uint8(1))
	f.Add([]byte("abab"), []byte("abacababx"), uint8(3))
	f.Fuzz(func(t *testing.T, keys, input []byte, chunk uint8) {
		if len(keys) == 0 || len(keys) > 16 {
			return
		}
		d := detacher{keys: keys}
		var got []byte
		detached := false
		for rest := input; len(rest) > 0 && !detached; {
			n := min(int(chunk)+1, len(rest))
			var pass []byte
			pass, detached = d.feed(rest[:n])
			got = append(got, pass...)
			rest = rest[n:]
		}
		want, _, found := bytes.Cut(input, keys)
		if !detached {
			got = append(got, d.rest()...)
		}
		if found != detached || !bytes.Equal(got, want) {
			t.Errorf("keys %q, input %q: %q, %v", keys, input, got, detached)
		}
	})
}
