package trace

import (
	"errors"
	"testing"
)

func TestLast(t *testing.T) {
	want := errors.New("EBUSY")
	for range keep + 3 {
		if err := Begin(Mount, "umount2", "/x").End(want); err != want {
			t.Fatal(err)
		}
	}
	l := Last()
	if len(l) != keep || l[0].Op != "umount2" || l[keep-1].Err != want {
		t.Errorf("Last() = %d events, %v", len(l), l[0])
	}
}

func TestEnable(t *testing.T) {
	defer Enable("")
	Enable("mount, nft,unknown")
	if got := printed.Load(); got != 1<<Mount|1<<Nft {
		t.Errorf("printed = %b", got)
	}
	Enable("all")
	if got := printed.Load(); got != 1<<kinds-1 {
		t.Errorf("printed = %b", got)
	}
}
