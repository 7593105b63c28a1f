package device

import (
	"testing"

	"lade/internal/errdefs"
)

func TestFind(t *testing.T) {
	d, err := Find("/dev/null")
	if err != nil || len(d) != 1 || d[0].Type != "c" || d[0].Major != 1 || d[0].Minor != 3 {
		t.Errorf("Find(/dev/null) = %+v, %v", d, err)
	}
	all, err := Find("/dev")
	if err != nil || len(all) < 5 {
		t.Errorf("Find(/dev) = %d devices, %v", len(all), err)
	}
	for _, d := range all {
		if d.Path == "/dev/console" || d.Path == "/dev/pts/ptmx" {
			t.Errorf("Find(/dev) has %s", d.Path)
		}
	}
	for _, p := range []string{"/etc/passwd", "/nope"} {
		if _, err := Find(p); errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("Find(%s): %v", p, err)
		}
	}
}
