package terminal

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestKeys(t *testing.T) {
	for s, want := range map[string]string{"": "\x10\x11", "ctrl-a": "\x01", "a,ctrl-[,ctrl-_": "a\x1b\x1f", "ctrl-@": "\x00"} {
		if got, err := Keys(s); err != nil || string(got) != want {
			t.Errorf("%q: %q %v", s, got, err)
		}
	}
	for _, bad := range []string{"ctrl-", "ctrl-1", "ab", ",", "ctrl-p,"} {
		if got, err := Keys(bad); err == nil {
			t.Errorf("%q: %q", bad, got)
		}
	}
}

// TestDetachable types texts byte by byte and all at once.
func TestDetachable(t *testing.T) {
	for in, want := range map[string]struct {
		out      string
		detached bool
	}{
		"abc":                {"abc", false},
		"ab\x10\x11cd":       {"ab", true},
		"\x10x\x11":          {"\x10x\x11", false},
		"\x10\x10\x11":       {"\x10", true},
		"a\x10":              {"a\x10", false},
		"\x10\x11":           {"", true},
		"\x11\x10":           {"\x11\x10", false},
		"x\x10\x10y\x10\x11": {"x\x10\x10y", true},
	} {
		for _, r := range []io.Reader{strings.NewReader(in), iotest.OneByteReader(strings.NewReader(in))} {
			keys, _ := Keys("")
			got, err := io.ReadAll(Detachable(r, keys))
			if string(got) != want.out || errors.Is(err, ErrDetached) != want.detached {
				t.Errorf("%q: %q %v", in, got, err)
			}
		}
	}
}
