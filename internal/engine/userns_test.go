package engine

import (
	"testing"

	apicontainer "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
)

// ranges returns what chooses ids, with a spare range, which the supervisor knows.
func ranges(t *testing.T) (*idRanges, *container.UserNS) {
	t.Helper()
	u, err := newIDRanges("")
	if err != nil {
		t.Fatal(err)
	}
	u.nested = false // wherever this test runs
	ns := u.reserveSpare()
	if ns == nil {
		t.Fatal("no spare range")
	}
	if again := u.reserveSpare(); again != nil {
		t.Error("a second spare range")
	}
	return u, ns
}

func choose(t *testing.T, u *idRanges, id string, hc *apicontainer.HostConfig) *container.UserNS {
	t.Helper()
	ns, err := u.choose(id, &apicontainer.Config{User: "1000:1000"}, hc, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

// The spare range goes to the next container that asks for ids of its own and
// nothing more; nobody else has its ids.
func TestSpareUser(t *testing.T) {
	u, held := ranges(t)
	first := choose(t, u, "a", &apicontainer.HostConfig{UsernsMode: "auto"})
	if !first.IDs.Equal(held.IDs) || u.ready["a"] == nil || u.taken[spareKey] != nil {
		t.Errorf("the first got %v, the spare one was %v", first.IDs, held.IDs)
	}
	if second := choose(t, u, "b", &apicontainer.HostConfig{UsernsMode: "auto"}); second.IDs.Overlaps(first.IDs) || u.ready["b"] != nil {
		t.Errorf("the second has ids of the first: %v", second.IDs)
	}
	u.close()
	if len(u.ready) != 0 {
		t.Error("namespaces are kept")
	}
}

// What needs a namespace of another kind does not get that of the supervisor, nor do its
// ids go to two.
func TestSpareUserUnfit(t *testing.T) {
	for name, hc := range map[string]*apicontainer.HostConfig{
		"keep-id":            {UsernsMode: "keep-id"},
		"network of its own": {UsernsMode: "auto", CapAdd: []string{"NET_ADMIN"}},
	} {
		u, held := ranges(t)
		if ns := choose(t, u, "a", hc); !ns.IDs.Overlaps(held.IDs) || u.ready["a"] != nil || u.taken[spareKey] != nil {
			t.Errorf("%s: %v, spare %v", name, ns.IDs, u.taken[spareKey])
		}
	}
	u, held := ranges(t)
	if ns := choose(t, u, "a", &apicontainer.HostConfig{UsernsMode: "auto:131072"}); ns.IDs.Overlaps(held.IDs) || u.taken[spareKey] == nil {
		t.Errorf("a bigger one: %v", ns.IDs)
	}
	if _, err := u.choose("b", &apicontainer.Config{}, &apicontainer.HostConfig{UsernsMode: "auto", Privileged: true}, nil); err == nil || u.taken[spareKey] == nil {
		t.Errorf("refused: %v, spare %v", err, u.taken[spareKey])
	}
}

// An engine in a user namespace has no ids to give; containers have its own.
func TestNestedUser(t *testing.T) {
	u, _ := ranges(t)
	u.nested = true
	for _, mode := range []apicontainer.UsernsMode{"auto", "auto:10", "keep-id", "remap:5:5:5"} {
		_, err := u.choose("a", &apicontainer.Config{User: "1000:1000"}, &apicontainer.HostConfig{UsernsMode: mode}, nil)
		if errdefs.KindOf(err) != errdefs.NotImplemented {
			t.Errorf("%s: %v", mode, err)
		}
	}
	for _, mode := range []apicontainer.UsernsMode{"", "host"} {
		if ns, err := u.choose("a", &apicontainer.Config{}, &apicontainer.HostConfig{UsernsMode: mode, Privileged: true}, nil); ns != nil || err != nil {
			t.Errorf("%q: %v, %v", mode, ns, err)
		}
	}
}
