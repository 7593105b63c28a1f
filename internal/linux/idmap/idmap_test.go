package idmap

import (
	"errors"
	"math"
	"os"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
)

func TestCheck(t *testing.T) {
	line := func(ctr, host, size uint32) specs.LinuxIDMapping {
		return specs.LinuxIDMapping{ContainerID: ctr, HostID: host, Size: size}
	}
	one := []specs.LinuxIDMapping{line(0, 100000, 65536)}
	for _, c := range []struct {
		name string
		m    Map
		ok   bool
	}{
		{"a range", Range(100000, 200000, 65536), true},
		{"nothing", Map{}, false},
		{"no groups", Map{UID: one}, false},
		{"no size", Range(1, 1, 0), false},
		{"the last id", Range(math.MaxUint32-1, 1, 1), true},
		{"past the last", Range(math.MaxUint32, 1, 1), false},
		{"two lines", Map{[]specs.LinuxIDMapping{line(0, 10, 5), line(5, 30, 5)}, one}, true},
		{"overlap outside", Map{[]specs.LinuxIDMapping{line(0, 10, 5), line(5, 14, 5)}, one}, false},
		{"overlap inside", Map{[]specs.LinuxIDMapping{line(0, 10, 5), line(4, 30, 5)}, one}, false},
		{"too many", Map{make([]specs.LinuxIDMapping, most+1), one}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.m.Check()
			if (err == nil) != c.ok || err != nil && !errors.Is(err, errdefs.Invalid) {
				t.Errorf("err = %v", err)
			}
		})
	}
}

func TestHost(t *testing.T) {
	m := Range(100000, 200000, 1000)
	if u, g, ok := m.Host(33, 34); u != 100033 || g != 200034 || !ok {
		t.Errorf("%d, %d, %v", u, g, ok)
	}
	if _, _, ok := m.Host(1000, 0); ok {
		t.Error("an id beyond the range has a counterpart")
	}
}

func TestOf(t *testing.T) {
	m, err := Of(os.Getpid())
	if err != nil || len(m.UID) == 0 || len(m.GID) == 0 {
		t.Errorf("%v, %v", m, err)
	}
	if got := text([]specs.LinuxIDMapping{{ContainerID: 1, HostID: 2, Size: 3}, {ContainerID: 4, HostID: 5, Size: 6}}); got != "1 2 3\n4 5 6\n" {
		t.Errorf("%q", got)
	}
}
