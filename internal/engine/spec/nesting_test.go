package spec

import (
	"slices"
	"testing"

	"github.com/moby/moby/api/types/container"
)

func TestApplyNesting(t *testing.T) {
	plain := container.HostConfig{SecurityOpt: []string{"nesting=false"}}
	if err := ApplyNesting(&plain); err != nil || plain.UsernsMode != "" || plain.CapAdd != nil || plain.MaskedPaths != nil {
		t.Errorf("nesting=false: %+v, %v", plain, err)
	}
	hc := container.HostConfig{SecurityOpt: []string{"nesting=true"}, CapDrop: []string{"SYS_PTRACE"}, CapAdd: []string{"NET_ADMIN"}, UsernsMode: "keep-id"}
	if err := ApplyNesting(&hc); err != nil {
		t.Fatal(err)
	}
	if want := []string{"NET_ADMIN", "CAP_SYS_ADMIN"}; !slices.Equal(hc.CapAdd, want) {
		t.Errorf("capabilities %v, want %v", hc.CapAdd, want)
	}
	if hc.UsernsMode != "keep-id" || hc.MaskedPaths == nil || hc.ReadonlyPaths == nil || !slices.Contains(hc.SecurityOpt, "writable-cgroups=true") {
		t.Errorf("nesting=true: %+v", hc)
	}
	for _, bad := range []container.HostConfig{
		{SecurityOpt: []string{"nesting"}}, {SecurityOpt: []string{"nesting=perhaps"}},
		{SecurityOpt: []string{"nesting=true"}, Privileged: true}, {SecurityOpt: []string{"nesting=true"}, UsernsMode: "host"},
	} {
		if err := ApplyNesting(&bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}
