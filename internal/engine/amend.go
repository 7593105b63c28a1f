package engine

import (
	"context"
	"maps"
	"path"
	"slices"
	"strings"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	apivolume "github.com/moby/moby/api/types/volume"

	"lade/internal/engine/container"
	"lade/internal/engine/logdriver"
	"lade/internal/engine/spec"
	"lade/internal/errdefs"
	"lade/internal/linux/device"
)

// Changes are what ContainerUpdate changes of a container beside Docker's limits
// and policy.
type Changes struct {
	EnvSet        []string                     `json:",omitempty"` // NAME=VALUE
	EnvRemove     []string                     `json:",omitempty"` // names
	LabelsSet     map[string]string            `json:",omitempty"`
	LabelsRemove  []string                     `json:",omitempty"`
	LogOptions    map[string]string            `json:",omitempty"` // replaced one by one; "" removes
	MountsAdd     []mount.Mount                `json:",omitempty"`
	MountsRemove  []string                     `json:",omitempty"` // destinations
	DevicesAdd    []apicontainer.DeviceMapping `json:",omitempty"`
	DevicesRemove []string                     `json:",omitempty"` // paths in the container
}

// any reports whether anything is to be changed.
func (c *Changes) any() bool {
	return len(c.EnvSet)+len(c.EnvRemove)+len(c.LabelsSet)+len(c.LabelsRemove)+len(c.LogOptions)+
		len(c.MountsAdd)+len(c.MountsRemove)+len(c.DevicesAdd)+len(c.DevicesRemove) > 0
}

// UpdateResponse is the answer of ContainerUpdate: of what was changed of a
// container that runs, what holds already, and what will from its next start on.
type UpdateResponse struct {
	apicontainer.UpdateResponse
	Live    []string `json:",omitempty"`
	Restart []string `json:",omitempty"`
}

// amendment is a request that was checked, for one container.
type amendment struct {
	*Changes
	add     []container.Mount
	made    []string // volumes that were not there before
	foreign bool     // another runtime runs it: nothing of it changes live
	answer  *UpdateResponse
}

// amendment checks a request and finds the volumes and images that it names.
// Errors: Invalid, NotFound; what it made until then is in the answer.
func (e *Engine) amendment(ctx context.Context, r *container.Record, c *Changes, answer *UpdateResponse) (*amendment, error) {
	a := &amendment{Changes: c, answer: answer}
	if other, err := e.runtime(r); err != nil || other != nil || len(r.HostConfig.DeviceRequests) > 0 {
		a.foreign = true
	}
	for _, kv := range c.EnvSet {
		if name, _, ok := strings.Cut(kv, "="); !ok || name == "" {
			return a, errdefs.Invalidf("invalid environment variable: %s", kv)
		}
	}
	for _, s := range c.MountsAdd {
		m, err := parseMount(s)
		if err != nil {
			return a, err
		}
		if m.Type == mount.TypeVolume && m.Name == "" {
			return a, errdefs.Invalidf("invalid mount config for type %q: field Source must not be empty", m.Type)
		}
		if m.Type == mount.TypeImage {
			img, err := e.Images.Resolve(m.Name)
			if err != nil {
				return a, err
			}
			m.ImageID, m.Source = img.ID.String(), m.Name
		}
		if m.Type == mount.TypeVolume {
			q := apivolume.CreateRequest{Name: m.Name, Driver: m.Driver}
			if o := s.VolumeOptions; o != nil {
				q.Labels = o.Labels
				if o.DriverConfig != nil {
					q.DriverOpts = o.DriverConfig.Options
				}
			}
			v, created, err := e.volumes.Create(ctx, q)
			if err != nil {
				return a, err
			}
			if created {
				a.made = append(a.made, v.Name)
				e.publishVolume(events.ActionCreate, v.Name, map[string]string{"driver": v.Driver})
			}
			m.Name, m.Driver, m.Source, m.NoCopy = v.Name, v.Driver, v.Mountpoint, true
			m.RW = m.RW && !e.volumes.ReadOnly(v.Name)
		}
		a.add = append(a.add, m)
	}
	return a, nil
}

// change changes the record, and notes what becomes of each part when the
// container runs. Errors: Invalid, Conflict.
func (a *amendment) change(r *container.Record) error {
	if len(a.EnvSet)+len(a.EnvRemove) > 0 {
		r.Config.Env = changeEnv(r.Config.Env, a.EnvSet, a.EnvRemove)
		a.later(r, "environment")
	}
	if len(a.LabelsSet)+len(a.LabelsRemove) > 0 {
		labels := maps.Clone(r.Config.Labels)
		if labels == nil {
			labels = map[string]string{}
		}
		for _, k := range a.LabelsRemove {
			delete(labels, k)
		}
		maps.Copy(labels, a.LabelsSet)
		r.Config.Labels = labels
		a.now(r, "labels")
	}
	if len(a.LogOptions) > 0 {
		options := maps.Clone(r.HostConfig.LogConfig.Config)
		if options == nil {
			options = map[string]string{}
		}
		for k, v := range a.LogOptions {
			if options[k] = v; v == "" {
				delete(options, k)
			}
		}
		r.HostConfig.LogConfig.Config = options
		if err := logdriver.Check(r.HostConfig.LogConfig); err != nil {
			return err
		}
		a.later(r, "log options")
	}
	if err := a.changeMounts(r); err != nil {
		return err
	}
	return a.changeDevices(r)
}

func changeEnv(env, set, remove []string) []string {
	name := func(kv string) string { n, _, _ := strings.Cut(kv, "="); return n }
	env = slices.DeleteFunc(slices.Clone(env), func(kv string) bool { return slices.Contains(remove, name(kv)) })
	for _, kv := range set {
		if i := slices.IndexFunc(env, func(o string) bool { return name(o) == name(kv) }); i >= 0 {
			env[i] = kv
		} else {
			env = append(env, kv)
		}
	}
	return env
}

// changeMounts takes mounts out of the record, wherever they were asked for, and
// puts new ones in.
func (a *amendment) changeMounts(r *container.Record) error {
	hc := r.HostConfig
	r.Mounts, hc.Mounts, hc.Binds = slices.Clone(r.Mounts), slices.Clone(hc.Mounts), slices.Clone(hc.Binds)
	for _, at := range a.MountsRemove {
		at = path.Clean(at)
		i := slices.IndexFunc(r.Mounts, func(m container.Mount) bool { return m.Destination == at })
		if i < 0 {
			return errdefs.Invalidf("the container has no mount at %s", at)
		}
		if r.Mounts[i].Anonymous {
			return errdefs.Conflictf("the mount at %s is the container's own volume, which is removed with it", at)
		}
		r.Mounts = slices.Delete(r.Mounts, i, i+1)
		hc.Mounts = slices.DeleteFunc(hc.Mounts, func(m mount.Mount) bool { return path.Clean(m.Target) == at })
		hc.Binds = slices.DeleteFunc(hc.Binds, func(b string) bool {
			m, err := parseBind(b)
			return err == nil && m.Destination == at
		})
	}
	for i, m := range a.add {
		if _, tmpfs := hc.Tmpfs[m.Destination]; tmpfs || slices.ContainsFunc(r.Mounts, func(o container.Mount) bool { return o.Destination == m.Destination }) {
			return errdefs.Invalidf("Duplicate mount point: %s", m.Destination)
		}
		r.Mounts = append(r.Mounts, m)
		hc.Mounts = append(hc.Mounts, a.MountsAdd[i])
	}
	slices.SortFunc(r.Mounts, func(a, b container.Mount) int { return strings.Compare(a.Destination, b.Destination) })
	if err := checkSecretTargets(r); err != nil {
		return err
	}
	if err := checkIDMaps(r); err != nil {
		return err
	}
	return checkRelabel(r)
}

func (a *amendment) changeDevices(r *container.Record) error {
	hc := r.HostConfig
	hc.Devices = slices.Clone(hc.Devices)
	inside := func(d apicontainer.DeviceMapping) string {
		if d.PathInContainer == "" {
			return path.Clean(d.PathOnHost)
		}
		return path.Clean(d.PathInContainer)
	}
	for _, at := range a.DevicesRemove {
		before := len(hc.Devices)
		hc.Devices = slices.DeleteFunc(hc.Devices, func(d apicontainer.DeviceMapping) bool { return inside(d) == path.Clean(at) })
		if len(hc.Devices) == before {
			return errdefs.Invalidf("the container has no device at %s", at)
		}
		a.later(r, "device "+path.Clean(at)+" removed")
	}
	for _, d := range a.DevicesAdd {
		if slices.ContainsFunc(hc.Devices, func(o apicontainer.DeviceMapping) bool { return inside(o) == inside(d) }) {
			return errdefs.Invalidf("the container has a device at %s", inside(d))
		}
		hc.Devices = append(hc.Devices, d)
	}
	_, err := spec.DeviceRules(hc, device.Find)
	return err
}

// now notes what holds already, later what will from the next start on.
func (a *amendment) now(r *container.Record, what string) {
	if r.State.Alive() {
		a.answer.Live = append(a.answer.Live, what)
	}
}

func (a *amendment) later(r *container.Record, what string) {
	if r.State.Alive() {
		a.answer.Restart = append(a.answer.Restart, what)
	}
}

// amend changes a container. Errors: NotFound, Invalid, Conflict.
func (e *Engine) amend(ctx context.Context, a *container.Actor, u *UpdateConfig, change func(*container.Record) error) (answer UpdateResponse, err error) {
	before := a.View()
	plan, err := e.amendment(ctx, before, &u.Changes, &answer)
	defer func() {
		if err == nil {
			return
		}
		for _, name := range plan.made { // it was not meant to be
			if rm := e.VolumeRemove(context.WithoutCancel(ctx), name, false); rm != nil {
				e.log.Warn("a volume that was made for nothing stays", "volume", name, "error", rm)
			}
		}
	}()
	if err != nil {
		return answer, err
	}
	for i, m := range plan.add {
		if m.Type != mount.TypeVolume {
			continue
		}
		if err := e.volumes.Use(m.Name, before.ID); err != nil {
			return answer, err
		}
		defer func() {
			if err != nil && !hasVolume(before, plan.add[i].Name) {
				e.volumes.Unmount(plan.add[i].Name, before.ID)
				e.volumes.Drop(plan.add[i].Name, before.ID)
			}
		}()
	}
	err = a.Amend(ctx, func(next *container.Record) error {
		answer.Live, answer.Restart = nil, nil
		if err := change(next); err != nil {
			return err
		}
		return plan.change(next)
	}, func(ctx context.Context, next *container.Record) (func(), error) {
		undo, err := e.applyLive(ctx, next, before, plan)
		if err != nil {
			return undo, err
		}
		if err = e.Limit(ctx, next); err != nil {
			undo()
			return undo, err
		}
		e.removeLive(next, plan) // last: it cannot be undone
		return undo, nil
	})
	if err != nil {
		return UpdateResponse{}, err
	}
	now := a.View()
	for _, m := range before.Mounts {
		if m.Type == mount.TypeVolume && !hasVolume(now, m.Name) {
			// What runs may still have it open, until the container ends.
			e.volumes.Drop(m.Name, now.ID)
			e.volumes.Unmount(m.Name, now.ID)
		}
	}
	return answer, nil
}

// hasVolume reports whether a container has a volume.
func hasVolume(r *container.Record, volume string) bool {
	return slices.ContainsFunc(r.Mounts, func(m container.Mount) bool { return m.Type == mount.TypeVolume && m.Name == volume })
}
