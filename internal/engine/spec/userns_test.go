package spec

import (
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestParseUser(t *testing.T) {
	for mode, want := range map[string]UserMode{
		"": {}, "host": {Kind: UserHost}, "auto": {Kind: UserAuto, Size: 65536}, "auto:1000": {Kind: UserAuto, Size: 1000},
		"keep-id": {Kind: UserKeep}, "keep-id:1000:100": {Kind: UserKeep, UID: 1000, GID: 100, Named: true},
		"remap:100000:200000:65536": {Kind: UserRemap, UID: 100000, GID: 200000, Size: 65536},
	} {
		if got, err := ParseUser(mode); err != nil || got != want {
			t.Errorf("%q: %+v, %v", mode, got, err)
		}
	}
	for _, mode := range []string{"private", "host:1", "auto:", "auto:0", "auto:x", "auto:1:2", "keep-id:1", "keep-id:-1:1", "remap", "remap:1:2", "remap:1:2:0",
		"remap:4294967295:0:1", "remap:1:2:3:4", "container:x"} {
		if got, err := ParseUser(mode); err == nil || err.Error() != "invalid user namespace mode: "+mode {
			t.Errorf("%q: %+v, %v", mode, got, err)
		}
	}
}

func TestTimeOffsets(t *testing.T) {
	for s, want := range map[string]map[string]specs.LinuxTimeOffset{
		"":               nil,
		"monotonic=+24h": {"monotonic": {Secs: 86400}},
		"monotonic=1.5s,boottime=-1.5s": {"monotonic": {Secs: 1, Nanosecs: uint32(500 * time.Millisecond)},
			"boottime": {Secs: -2, Nanosecs: uint32(500 * time.Millisecond)}},
	} {
		got, err := TimeOffsets(s)
		if err != nil || len(got) != len(want) {
			t.Errorf("%q: %v, %v", s, got, err)
		}
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%q: %v", s, got)
			}
		}
	}
	for _, s := range []string{"1h", "realtime=1h", "monotonic", "monotonic=x", "monotonic=1h,monotonic=1h", ","} {
		if got, err := TimeOffsets(s); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
}
