package cgroup

import (
	"errors"
	"testing"

	"lade/internal/errdefs"
)

func TestScope(t *testing.T) {
	for _, tc := range []struct{ in, unit, path string }{
		{"system.slice:lade:x", "lade-x.scope", "/system.slice/lade-x.scope"},
		{":lade:x", "lade-x.scope", "/system.slice/lade-x.scope"},
		{"a-b-c.slice::x", "x.scope", "/a.slice/a-b.slice/a-b-c.slice/x.scope"},
		{"-.slice:p:x", "p-x.scope", "/p-x.scope"},
	} {
		s, ok := ParseScope(tc.in)
		if !ok || s.Unit() != tc.unit {
			t.Errorf("%s: %+v, %v, unit %s", tc.in, s, ok, s.Unit())
		}
		if p, err := s.Path(); err != nil || p != tc.path {
			t.Errorf("%s: %s, %v, want %s", tc.in, p, err, tc.path)
		}
		if rel, err := clean(tc.in); err != nil || "/"+rel != tc.path {
			t.Errorf("clean(%s) = %s, %v", tc.in, rel, err)
		}
	}
	for _, no := range []string{"/a:b:c", "a:b", "a:b:", "a:b:c:d", "a/b:c:d", ""} {
		if s, ok := ParseScope(no); ok {
			t.Errorf("%q: %+v", no, s)
		}
	}
	for _, bad := range []string{"a:b:c", ".slice:b:c", "a--b.slice:b:c", "-a.slice:b:c", "a-.slice:b:c", "a.scope:b:c"} {
		s, _ := ParseScope(bad)
		if p, err := s.Path(); !errors.Is(err, errdefs.Invalid) {
			t.Errorf("%q: %s, %v", bad, p, err)
		}
	}
}
