package decode

import (
	"encoding/json"
	"reflect"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// A specification is decoded to what encoding/json makes of it: the quick way as
// json.Marshal writes it and with spaces, the other way with fields that nobody
// knows. The supervisor's wire has the tests with damaged messages.
func TestSpec(t *testing.T) {
	limit, soft := int64(1<<40), uint64(1<<50)
	want := specs.Spec{
		Version: specs.Version, Hostname: "ä\"\\\n", Root: &specs.Root{Path: "/r", Readonly: true},
		Process: &specs.Process{Args: []string{"a", ""}, Env: []string{}, Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: soft}}},
		Mounts:  []specs.Mount{{Destination: "/m", UIDMappings: []specs.LinuxIDMapping{{HostID: 1<<32 - 1, Size: 1}}}},
		Hooks:   &specs.Hooks{Poststop: []specs.Hook{{Path: "/h"}}},
		Linux: &specs.Linux{
			Resources: &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}, Unified: map[string]string{"a": "b"}},
			Seccomp: &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, DefaultErrnoRet: new(uint(38)), Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86},
				Syscalls: []specs.LinuxSyscall{{Names: []string{"read", "write"}, Action: specs.ActAllow},
					{Names: []string{"clone"}, Action: specs.ActErrno, ErrnoRet: new(uint(1)), Args: []specs.LinuxSeccompArg{{Index: 1, Value: 1 << 40, ValueTwo: 2, Op: specs.OpMaskedEqual}}}}},
		},
	}
	compact, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	spaced, err := json.MarshalIndent(want, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	unknown := append([]byte(`{"ociVersion":"1.0","new":{"x":[1,2]},`), compact[1:]...)
	s := Of[specs.Spec]()
	for name, c := range map[string]struct {
		body  []byte
		quick bool
	}{"compact": {compact, true}, "spaced": {append(spaced, '\n'), true}, "unknown": {unknown, false}} {
		var got, direct specs.Spec
		if s.Quick(c.body, &got) != c.quick {
			t.Errorf("%s: the quick way is not %v", name, c.quick)
		}
		got = specs.Spec{}
		if err := s.Decode(c.body, &got); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := json.Unmarshal(c.body, &direct); err != nil || !reflect.DeepEqual(got, direct) {
			t.Errorf("%s: %+v\n%+v", name, got, direct)
		}
	}
	var got specs.Spec
	if err := s.Decode([]byte(`{"root":7}`), &got); err == nil {
		t.Error("a number for an object is taken")
	}
}
