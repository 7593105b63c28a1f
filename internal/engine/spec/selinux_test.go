package spec

import (
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
	"lade/internal/linux/selinux"
)

func TestChooseLabels(t *testing.T) {
	d := &selinux.Defaults{
		Process: selinux.Context{User: "system_u", Role: "system_r", Type: "container_t", Level: "s0"},
		File:    selinux.Context{User: "system_u", Role: "object_r", Type: "container_file_t", Level: "s0"},
	}
	const unlabelled = "system_u:object_r:container_file_t:s0:c1022,c1023"
	type hc = container.HostConfig
	for name, tc := range map[string]struct {
		hc             hc
		like           string
		free           bool
		process, mount string // LEVEL stands for one of its own
	}{
		"default":    {hc{}, "", false, "system_u:system_r:container_t:LEVEL", "system_u:object_r:container_file_t:LEVEL"},
		"disable":    {hc{SecurityOpt: []string{"label=disable"}}, "", false, "", unlabelled},
		"old form":   {hc{SecurityOpt: []string{"label:disable"}}, "", false, "", unlabelled},
		"privileged": {hc{Privileged: true}, "", false, "", unlabelled},
		"host":       {hc{}, "", true, "", unlabelled},
		"like": {
			hc{}, "u:r:t:s0:c4,c5", false, "u:r:t:s0:c4,c5", "system_u:object_r:container_file_t:s0:c4,c5",
		},
		"type":  {hc{SecurityOpt: []string{"label=type:x_t"}}, "u:r:t:s0:c4,c5", true, "system_u:system_r:x_t:LEVEL", "system_u:object_r:container_file_t:LEVEL"},
		"level": {hc{SecurityOpt: []string{"label=level:s0:c7,c8"}}, "", false, "system_u:system_r:container_t:s0:c7,c8", "system_u:object_r:container_file_t:s0:c7,c8"},
		"all": {
			hc{SecurityOpt: []string{"label=user:u", "label=role:r", "label=type:t", "label=filetype:f", "label=level:s0"}}, "", false, "u:r:t:s0", "u:object_r:f:s0",
		},
		"privileged with a type": {hc{Privileged: true, SecurityOpt: []string{"label=type:x_t"}}, "", false, "", "system_u:object_r:container_file_t:LEVEL"},
	} {
		var levels selinux.Levels
		got, err := ChooseLabels(&tc.hc, d, &levels, tc.like, tc.free)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		own := strings.TrimPrefix(got.Mount, "system_u:object_r:container_file_t:")
		want := Labels{strings.ReplaceAll(tc.process, "LEVEL", own), strings.ReplaceAll(tc.mount, "LEVEL", own)}
		if got != want || strings.Contains(tc.mount, "LEVEL") && !strings.HasPrefix(own, "s0:c") {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	for _, bad := range []string{"type", "type:", "colour:red", "disabled"} {
		if _, err := ChooseLabels(&hc{SecurityOpt: []string{"label=" + bad}}, d, &selinux.Levels{}, "", false); errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("%s: %v", bad, err)
		}
	}
	// A policy without levels.
	d.Process.Level, d.File.Level = "", ""
	if got, err := ChooseLabels(&hc{}, d, &selinux.Levels{}, "", false); err != nil || got.Process != "system_u:system_r:container_t" {
		t.Errorf("labels without levels: %+v, %v", got, err)
	}
}
