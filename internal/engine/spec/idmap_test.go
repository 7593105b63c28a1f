package spec

import (
	"reflect"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/linux/idmap"
)

func TestMountMap(t *testing.T) {
	type lines = []specs.LinuxIDMapping
	host := lines{{Size: 1<<32 - 1}}
	own := idmap.Map{UID: lines{{HostID: 70000, Size: 1000}, {ContainerID: 1000, HostID: 1000, Size: 1}, {ContainerID: 1001, HostID: 71001, Size: 9}}, GID: lines{{HostID: 80000, Size: 10}}}
	for _, c := range []struct {
		text string
		user idmap.Map
		want idmap.Map
	}{
		{"uids=1000-0-1", idmap.Map{}, idmap.Map{UID: lines{{ContainerID: 1000, Size: 1}}, GID: host}},
		{"uids=1000-@0-1;gids=100-5-1", idmap.Map{}, idmap.Map{UID: lines{{ContainerID: 1000, Size: 1}}, GID: lines{{ContainerID: 100, HostID: 5, Size: 1}}}},
		{"uids=5-@0-1#0-33-2", own, idmap.Map{UID: lines{{ContainerID: 5, HostID: 70000, Size: 1}, {HostID: 33, Size: 2}}, GID: own.GID}},
		{"gids=0-@9-1", own, idmap.Map{UID: own.UID, GID: lines{{HostID: 80009, Size: 1}}}},
		{"uids=0-@999-3", own, idmap.Map{UID: lines{{HostID: 70999, Size: 1}, {ContainerID: 1, HostID: 1000, Size: 1}, {ContainerID: 2, HostID: 71001, Size: 1}}, GID: own.GID}},
	} {
		m, err := ParseMountMap(c.text)
		if err != nil || m.Empty() {
			t.Errorf("%q: %v", c.text, err)
		}
		if got, err := m.For(c.user); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q in %v: %v, %v; want %v", c.text, c.user, got, err, c.want)
		}
	}
	for _, text := range []string{"", "true"} {
		if m, err := ParseMountMap(text); err != nil || !m.Empty() {
			t.Errorf("%q: %v, %v", text, m, err)
		}
	}
	for _, text := range []string{"false", "uids", "uids=", "uids=1", "uids=1-2", "uids=1-2-0", "uids=1-2-3-4", "uids=1-2-x", "uids=@1-2-3", "uids=1-2-3;uids=4-5-6", "ids=1-2-3", "uids=1-2-4294967296", ";"} {
		if m, err := ParseMountMap(text); err == nil {
			t.Errorf("%q: %v", text, m)
		}
	}
	for _, text := range []string{"uids=0-@1010-1", "uids=0-@999-20", "uids=0-5-2#1-9-1", "gids=4294967295-0-2"} {
		m, err := ParseMountMap(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if got, err := m.For(own); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}
