package netns

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"lade/internal/need"
)

// TestSysctl writes in two namespaces by turns, for longer than one instance of
// proc is used: each keeps what was written in it.
func TestSysctl(t *testing.T) {
	need.Root(t)
	const name = "net/ipv4/ip_unprivileged_port_start"
	var ns [2]*os.File
	for i := range ns {
		var err error
		if ns[i], err = New(func(*os.File) error { return nil }); err != nil {
			t.Fatal(err)
		}
		defer ns[i].Close()
	}
	value := func() string {
		raw, err := os.ReadFile("/proc/sys/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(raw))
	}
	before := value()
	for n := range procUses + 10 {
		if err := Do(ns[n%2], func() error { return Sysctl(name, strconv.Itoa(n)) }); err != nil {
			t.Fatal(err)
		}
	}
	for i := range ns {
		want := strconv.Itoa(procUses + 8 + i)
		if err := Do(ns[i], func() error {
			if got := value(); got != want {
				t.Errorf("namespace %d has %s, not %s", i, got, want)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if got := value(); got != before {
		t.Errorf("our own namespace has %s, not %s", got, before)
	}
	if err := Sysctl("net/nothing", "1"); !os.IsNotExist(err) {
		t.Errorf("a parameter that is not there: %v", err)
	}
}
