package opt

import (
	"strings"
	"testing"
)

// FuzzFlags feeds one text to every grammar: none may panic, and what is taken
// is what was said.
func FuzzFlags(f *testing.F) {
	for _, s := range []string{
		"", ":", "=", "80:80", "127.0.0.1:8000-8002:80-82/udp", "[::1]::80", "published=1,target=2", "type=bind,src=a,dst=b", `"a`, "a:b:c:d",
		"name=x,alias=y", "all", "device=1,2", "/dev/a:/dev/b:rwm", "nofile=1:2", "/dev/sda:1mb", "linux/arm64/v8", "1/3", "64m", "A=b", "host=[::1]", "c 1:1 r", "x:1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 200 {
			return
		}
		for _, v := range []interface{ Set(string) error }{
			&Mounts{}, &Networks{}, &GPUs{}, Ulimits{}, NewRate(true), NewRate(false), NewWeight(), new(Bytes), new(SwapBytes), new(CPUs), new(Duration), &Filter{}, NewMap(Sysctl), NewList(Label),
		} {
			_ = v.Set(s)
		}
		for _, check := range []func(string) (string, error){Env, Label, IP, DNSSearch, ExtraHost, Sysctl, Link, Attach, DeviceRule} {
			_, _ = check(s)
		}
		if p, err := Platform(s); err == nil && (p.OS == "" || p.Architecture == "") {
			t.Errorf("platform %q: %+v", s, p)
		}
		if bind, target, err := Volume(s); err == nil && bind == "" && target != s {
			t.Errorf("volume %q: %q", s, target)
		}
		if _, ctr, mode, err := Device(s); err == nil && (!strings.HasPrefix(ctr, "/") || !DeviceMode(mode)) {
			t.Errorf("device %q: %q %q", s, ctr, mode)
		}
		_, _, _, _ = Ports([]string{s}, nil)
		_, _ = parseFile([]byte(s), nil)
	})
}
