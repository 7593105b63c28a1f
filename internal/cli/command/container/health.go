package container

import (
	"errors"
	"maps"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"

	"lade/internal/cli/opt"
)

// onUnhealthy is the flag that says what happens to a container that becomes
// unhealthy. Docker has no such flag: the engine reads an annotation.
type onUnhealthy struct{ action string }

func newOnUnhealthy(f *pflag.FlagSet) *onUnhealthy {
	o := &onUnhealthy{}
	f.StringVar(&o.action, "health-on-failure", "none", `What to do when the container becomes unhealthy ("none"|"kill"|"restart"|"stop")`)
	opt.Own(f, "health-on-failure")
	return o
}

// annotate asks for the action when a container is created.
func (o *onUnhealthy) annotate(h *container.HostConfig) error {
	switch o.action {
	case "none":
		return nil
	case "kill", "restart", "stop":
	default:
		return errors.New("invalid value for --health-on-failure: " + o.action + ": must be one of none, kill, restart, stop")
	}
	all := maps.Clone(h.Annotations)
	if all == nil {
		all = map[string]string{}
	}
	all["lade.health-on-failure"] = o.action
	h.Annotations = all
	return nil
}
