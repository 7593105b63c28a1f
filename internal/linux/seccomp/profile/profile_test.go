package profile

import (
	"errors"
	"fmt"
	"reflect"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
)

// TestDefaults checks that a profile is made once for a bounding set, and is that
// of the set.
func TestDefaults(t *testing.T) {
	var d Defaults
	for _, set := range [][]string{nil, {"CAP_SYS_ADMIN"}, {"CAP_CHOWN", "CAP_SYS_ADMIN"}} {
		want, err := Default(set)
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.Profile(set)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v: another profile, %v", set, err)
		}
		if again, err := d.Profile(set); again != got || err != nil {
			t.Errorf("%v: it is made again, %v", set, err)
		}
	}
	for i := range 2 * maxDefaults {
		if _, err := d.Profile([]string{fmt.Sprint(i)}); err != nil || len(d.made) > maxDefaults {
			t.Fatalf("%d are kept, %v", len(d.made), err)
		}
	}
}

func TestInvalid(t *testing.T) {
	if _, err := Load([]byte("{"), nil); !errors.Is(err, errdefs.Invalid) || err.Error()[:34] != "Decoding seccomp profile failed: u" {
		t.Errorf("broken JSON: %v", err)
	}
	if s, err := Load([]byte("{}"), nil); s != nil || err != nil {
		t.Errorf("empty profile: %v, %v", s, err)
	}
}

func TestLoad(t *testing.T) {
	const text = `{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}, {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}],
		"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"},
		{"names": ["write"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
		{"names": ["close"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "3.0"}}]}`
	for _, tc := range []struct {
		caps []string
		want int
	}{{nil, 1}, {[]string{"CAP_SYS_ADMIN"}, 2}} {
		s, err := Load([]byte(text), tc.caps)
		if err != nil || len(s.Syscalls) != tc.want || len(s.Architectures) != 2 {
			t.Errorf("%v: %+v, %v", tc.caps, s, err)
		}
	}
}

func TestKey(t *testing.T) {
	seen := map[string]int{}
	for i, s := range []*specs.LinuxSeccomp{
		{DefaultAction: specs.ActAllow},
		{DefaultAction: specs.ActErrno},
		{DefaultAction: specs.ActErrno, DefaultErrnoRet: new(uint(0))},
		{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{"a", "b"}},
		{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{"ab"}},
		{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"ab"}},
		{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"a"}}}},
		{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"a"}, Args: []specs.LinuxSeccompArg{{Value: 1}}}}},
		{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"a"}, Args: []specs.LinuxSeccompArg{{ValueTwo: 1}}}}},
		docker(t),
	} {
		k, err := Key(s)
		if old, dup := seen[k]; dup || err != nil {
			t.Errorf("%d and %d: %s, %v", old, i, k, err)
		}
		seen[k] = i
	}
	if a, _ := Key(docker(t)); seen[a] == 0 {
		t.Error("equal profiles have different keys")
	}
}

func BenchmarkDefault(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		docker(b)
	}
}

func BenchmarkKey(b *testing.B) {
	s := docker(b)
	for b.Loop() {
		if _, err := Key(s); err != nil {
			b.Fatal(err)
		}
	}
}

// docker is the profile of a container with a few capabilities.
func docker(t testing.TB) *specs.LinuxSeccomp {
	t.Helper()
	s, err := Default([]string{"CAP_CHOWN", "CAP_SYS_CHROOT"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestNulls: "null" in a profile's lists is refused, where it means nothing it is
// none.
func TestNulls(t *testing.T) {
	for text, ok := range map[string]bool{
		`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [null]}`:                                                                          false,
		`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [null]}]}`:               false,
		`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [null], "action": "SCMP_ACT_ERRNO", "includes": null}]}`:               true,
		`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": null, "architectures": null, "archMap": [null], "flags": null}`:                   true,
		`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": null, "args": null, "excludes": {}}]}`:             true,
		`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": [null]}}]}`: true,
		`null`: true,
	} {
		_, err := Load([]byte(text), nil)
		if (err == nil) != ok || err != nil && !errors.Is(err, errdefs.Invalid) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
