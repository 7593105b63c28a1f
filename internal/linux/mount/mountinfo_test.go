package mount

import "testing"

func TestContaining(t *testing.T) {
	const lines = `27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 27 0:40 / /srv rw - tmpfs a rw
41 27 0:41 / /srv rw shared:7 - tmpfs b rw
42 41 0:42 / /srv/two\040words rw shared:8 master:7 propagate_from:2 - tmpfs c rw
43 27 0:43 / /srvx rw master:3 - tmpfs d rw
broken
`
	for path, want := range map[string]Info{
		"/":                 {Point: "/"},
		"/etc/passwd":       {Point: "/"},
		"/srv":              {Point: "/srv", Shared: true},
		"/srv/x":            {Point: "/srv", Shared: true},
		"/srv/two words/x":  {Point: "/srv/two words", Shared: true, Slave: true},
		"/srv/two wordsman": {Point: "/srv", Shared: true},
		"/srvx/x":           {Point: "/srvx", Slave: true},
	} {
		if got, ok := containing(lines, path); !ok || got != want {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
	}
	if _, ok := containing("", "/x"); ok {
		t.Error("a mount without mounts")
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{`a\040b`: "a b", `\134`: `\`, `\9`: `\9`, `a\`: `a\`, `\0400`: " 0"} {
		if got := unescape(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
