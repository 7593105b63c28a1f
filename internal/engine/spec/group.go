package spec

import (
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

// ConfPrefix begins the annotations that set files of a container's control
// group of version 2: "lade.cgroup-conf.memory.high". They are what the flag
// --cgroup-conf of lade's client becomes, and how other clients ask for it.
const ConfPrefix = "lade.cgroup-conf."

// settable are the files of no controller that --cgroup-conf may set: limits.
// The others move or stop processes, which is the engine's business.
var settable = []string{"cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure"}

// cgroupConf returns the files that annotations ask for, with their values.
func cgroupConf(annotations map[string]string) map[string]string {
	var files map[string]string
	for k, v := range annotations {
		if file, ok := strings.CutPrefix(k, ConfPrefix); ok {
			if files == nil {
				files = map[string]string{}
			}
			files[file] = v
		}
	}
	return files
}

// group checks where the container's control group is to be, and the files of
// it that are set by name.
func (v *validator) group(hc *container.HostConfig) error {
	if err := CheckCgroupParent(hc.CgroupParent, v.facts.Systemd); err != nil {
		return err
	}
	conf := cgroupConf(hc.Annotations)
	for _, file := range slices.Sorted(maps.Keys(conf)) {
		if err := v.facts.checkConf(file, conf[file]); err != nil {
			return err
		}
	}
	return nil
}

// CheckCgroupParent checks the group that is to hold a container's, in Docker's
// words. "" is the engine's own. Errors: Invalid.
func CheckCgroupParent(parent string, systemd bool) error {
	switch {
	case parent == "":
	case strings.ContainsAny(parent, "\x00\n"):
		return errdefs.Invalidf("invalid cgroup parent %q", parent)
	case systemd && (len(parent) <= len("x.slice")-1 || !strings.HasSuffix(parent, ".slice")):
		return errdefs.Invalidf(`cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"`)
	}
	return nil
}

// checkConf says whether this host has what a file of version 2 belongs to.
func (f Facts) checkConf(file, value string) error {
	controller, rest, ok := strings.Cut(file, ".")
	switch {
	case !ok || controller == "" || rest == "" || strings.ContainsAny(file, "/\x00\n"):
		return errdefs.Invalidf("invalid --cgroup-conf %q: it must be the name of a file of a control group, as memory.high", file)
	case value == "":
		return errdefs.Invalidf("invalid --cgroup-conf %q: it has no value", file)
	case f.Unified == nil:
		return errdefs.Invalidf("--cgroup-conf %s: this host has control groups of version 1 only", file)
	case controller == "cgroup" && !slices.Contains(settable, file):
		return errdefs.Invalidf("--cgroup-conf %s: it is for limits, which this is not", file)
	case controller != "cgroup" && !f.Unified[controller] && f.Controllers[v1Name(controller)]:
		return errdefs.Invalidf("--cgroup-conf %s: on this host the controller %q is of version 1, which has other files", file, v1Name(controller))
	case controller != "cgroup" && !f.Unified[controller]:
		return errdefs.Invalidf("--cgroup-conf %s: this host has no control group controller %q", file, controller)
	}
	return nil
}

// v1Name is what a controller of version 2 is called in version 1.
func v1Name(controller string) string {
	if controller == "io" {
		return "blkio"
	}
	return controller
}
