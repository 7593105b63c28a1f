package container

import (
	"context"
	"errors"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/opt"
)

// changes are what lade's engine updates besides Docker's limits and policy.
type changes struct {
	EnvSet        []string                  `json:",omitempty"`
	EnvRemove     []string                  `json:",omitempty"`
	LabelsSet     map[string]string         `json:",omitempty"`
	LabelsRemove  []string                  `json:",omitempty"`
	LogOptions    map[string]string         `json:",omitempty"`
	MountsAdd     []mount.Mount             `json:",omitempty"`
	MountsRemove  []string                  `json:",omitempty"`
	DevicesAdd    []container.DeviceMapping `json:",omitempty"`
	DevicesRemove []string                  `json:",omitempty"`
}

func (c *changes) any() bool {
	return len(c.EnvSet)+len(c.EnvRemove)+len(c.LabelsSet)+len(c.LabelsRemove)+len(c.LogOptions)+
		len(c.MountsAdd)+len(c.MountsRemove)+len(c.DevicesAdd)+len(c.DevicesRemove) > 0
}

// changed is the engine's answer.
type changed struct {
	container.UpdateResponse
	Live    []string
	Restart []string
}

// tell says what holds already and what waits, beside the output that scripts
// read.
func (c *changed) tell(e *app.Env, id string) {
	if len(c.Live) > 0 {
		e.Complain(id + ": changed now: " + strings.Join(c.Live, ", "))
	}
	if len(c.Restart) > 0 {
		e.Complain(id + ": needs a restart: " + strings.Join(c.Restart, ", "))
	}
}

// changeFlags are the flags for changes.
type changeFlags struct {
	set                                        *pflag.FlagSet
	env, envRemove, labels, labelsRemove, logs *opt.List
	mountsRemove, devices, devicesRemove       *opt.List
	mounts                                     opt.Mounts
}

func newChangeFlags(f *pflag.FlagSet) *changeFlags {
	c := &changeFlags{set: f}
	c.devices = list(f, "device-add", "", "Add a host device", nil)
	c.devicesRemove = list(f, "device-rm", "", "Remove a device by its path in the container (from the next start on)", nil)
	c.env = list(f, "env", "e", "Set environment variables (from the next start on)", opt.Env)
	c.envRemove = list(f, "env-rm", "", "Remove environment variables (from the next start on)", nil)
	c.labels = list(f, "label", "l", "Set meta data", opt.Label)
	c.labelsRemove = list(f, "label-rm", "", "Remove meta data by key", nil)
	c.logs = list(f, "log-opt", "", "Set log driver options; one without value is removed (from the next start on)", nil)
	f.Var(&c.mounts, "mount-add", "Mount something, as run --mount does; at once where the kernel can")
	c.mountsRemove = list(f, "mount-rm", "", "Remove a mount by its path in the container", nil)
	opt.Own(f, c.names()...)
	return c
}

func (*changeFlags) names() []string {
	return []string{"device-add", "device-rm", "env", "env-rm", "label", "label-rm", "log-opt", "mount-add", "mount-rm"}
}

// any reports whether one of the flags is given.
func (c *changeFlags) any() bool {
	for _, n := range c.names() {
		if c.set.Changed(n) {
			return true
		}
	}
	return false
}

// need refuses another engine than lade's, which would ignore the flags without
// a word.
func (c *changeFlags) need(ctx context.Context, api *moby.Client) error {
	if !c.any() {
		return nil
	}
	return app.NeedLade(ctx, api, "--"+strings.Join(c.names(), ", --")+" need")
}

// changes is what the flags say.
func (c *changeFlags) changes() (out changes, err error) {
	if len(c.mounts.IDMaps) > 0 {
		return out, errors.New("--mount-add: the option idmap of a mount needs a start of the container")
	}
	out = changes{
		EnvSet: c.env.Values(), EnvRemove: c.envRemove.Values(), LabelsRemove: c.labelsRemove.Values(),
		MountsAdd: c.mounts.Values(), MountsRemove: c.mountsRemove.Values(), DevicesRemove: c.devicesRemove.Values(),
	}
	if l := c.labels.Values(); len(l) > 0 {
		out.LabelsSet = opt.Pairs(l)
	}
	if l := c.logs.Values(); len(l) > 0 {
		out.LogOptions = opt.Pairs(l)
	}
	for _, d := range c.devices.Values() {
		host, ctr, mode, err := opt.Device(d)
		if err != nil {
			return out, err
		}
		out.DevicesAdd = append(out.DevicesAdd, container.DeviceMapping{PathOnHost: host, PathInContainer: ctr, CgroupPermissions: mode})
	}
	return out, nil
}
