package engine

import (
	"context"
	"path"
	"slices"
	"strconv"
	"strings"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/volume"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
	mounts "lade/internal/linux/mount"
)

// mounts resolves all that a create request says about mounts, in Docker's
// order of precedence: volumes of other containers, binds, mounts, and the
// image's anonymous volumes where nothing else is mounted. Volumes are made;
// undo removes those that did not exist before. shallow is as in askedMounts.
func (e *Engine) mounts(ctx context.Context, rec *container.Record, shallow bool) (out []container.Mount, undo func(), err error) {
	id, c, hc := rec.ID, rec.Config, rec.HostConfig
	var made []string
	release := func() {
		e.volumes.Release(id)
		for _, name := range made {
			e.volumes.Undo(name)
		}
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	put := func(m container.Mount) {
		out = slices.DeleteFunc(out, func(o container.Mount) bool { return o.Destination == m.Destination })
		out = append(out, m)
	}
	for _, from := range hc.VolumesFrom {
		ms, err := e.volumesFrom(from)
		if err != nil {
			return nil, nil, err
		}
		for _, m := range ms {
			put(m)
		}
	}
	asked, err := askedMounts(hc, shallow)
	if err != nil {
		return nil, nil, err
	}
	for _, m := range asked {
		put(m)
	}
	for dest := range c.Volumes {
		dest = path.Clean(dest)
		_, tmpfs := hc.Tmpfs[dest]
		if tmpfs || slices.ContainsFunc(out, func(m container.Mount) bool { return m.Destination == dest }) {
			continue
		}
		if !path.IsAbs(dest) || dest == "/" {
			return nil, nil, errdefs.Invalidf("invalid volume specification: '%s': invalid mount config for type \"volume\": invalid specification: destination can't be '/'", dest)
		}
		put(container.Mount{MountPoint: apicontainer.MountPoint{Type: mount.TypeVolume, Destination: dest, RW: true}})
	}
	for i := range out {
		m := &out[i]
		if m.Type == mount.TypeImage && m.ImageID == "" {
			img, err := e.Images.Resolve(m.Name)
			if err != nil {
				return nil, nil, err
			}
			m.ImageID = img.ID.String()
			m.Source = m.Name
		}
		if m.Type != mount.TypeVolume {
			continue
		}
		m.Anonymous = m.Anonymous || m.Name == ""
		created, err := e.volumeFor(ctx, id, m, hc)
		if err != nil {
			return nil, nil, err
		}
		if created {
			made = append(made, m.Name)
		}
	}
	slices.SortFunc(out, func(a, b container.Mount) int { return strings.Compare(a.Destination, b.Destination) })
	return out, release, nil
}

// askedMounts reads Binds and Mounts. With shallow, a read-only bind of Binds leaves
// the mounts below it as they are. Errors: Invalid, also for two at one place.
func askedMounts(hc *apicontainer.HostConfig, shallow bool) (all []container.Mount, err error) {
	seen := map[string]bool{}
	add := func(m container.Mount, err error) error {
		if err != nil {
			return err
		}
		if seen[m.Destination] {
			return errdefs.Invalidf("Duplicate mount point: %s", m.Destination)
		}
		seen[m.Destination] = true
		all = append(all, m)
		return nil
	}
	for _, b := range hc.Binds {
		m, err := parseBind(b)
		if shallow && m.Type == mount.TypeBind && !m.RW {
			m.Options = append(m.Options, "ro")
		}
		if err := add(m, err); err != nil {
			return nil, err
		}
	}
	for _, m := range hc.Mounts {
		if err := add(parseMount(m)); err != nil {
			return nil, err
		}
	}
	for dest := range hc.Tmpfs {
		if seen[path.Clean(dest)] {
			return nil, errdefs.Invalidf("Duplicate mount point: %s", dest)
		}
	}
	return all, annotatedMaps(all, hc.Annotations)
}

// volumeFor makes or finds the volume of a mount and notes its use.
func (e *Engine) volumeFor(ctx context.Context, id string, m *container.Mount, hc *apicontainer.HostConfig) (created bool, err error) {
	driver := m.Driver
	if driver == "" {
		driver = hc.VolumeDriver
	}
	q := volume.CreateRequest{Name: m.Name, Driver: driver}
	if o := volumeOptions(hc, m); o != nil {
		q.Labels = o.Labels
		if o.DriverConfig != nil {
			q.DriverOpts = o.DriverConfig.Options
		}
	}
	v, created, err := e.volumes.Prepare(ctx, q)
	if err != nil {
		return false, err
	}
	m.Name, m.Driver, m.Source = v.Name, v.Driver, v.Mountpoint
	if e.volumes.ReadOnly(v.Name) {
		m.RW, m.NoCopy = false, true
	}
	if created {
		e.publishVolume("create", v.Name, map[string]string{"driver": v.Driver})
	}
	return created, e.volumes.Use(v.Name, id)
}

// publishMounts tells that a container's process will have its volumes.
func (e *host) publishMounts(r *container.Record) {
	for _, m := range r.Mounts {
		if m.Type == mount.TypeVolume {
			e.publishVolume(events.ActionMount, m.Name, map[string]string{
				"driver": m.Driver, "container": r.ID, "destination": m.Destination,
				"read/write": strconv.FormatBool(m.RW), "propagation": string(m.Propagation),
			})
		}
	}
}

// publishUnmounts tells that it has them no more.
func (e *host) publishUnmounts(r *container.Record) {
	for _, m := range r.Mounts {
		if m.Type == mount.TypeVolume {
			e.publishVolume(events.ActionUnmount, m.Name, map[string]string{"driver": m.Driver, "container": r.ID})
		}
	}
}

// volumeOptions are what a mount asks for its new volume; nil: nothing.
func volumeOptions(hc *apicontainer.HostConfig, m *container.Mount) *mount.VolumeOptions {
	for _, spec := range hc.Mounts {
		if spec.Type == mount.TypeVolume && path.Clean(spec.Target) == m.Destination {
			return spec.VolumeOptions
		}
	}
	return nil
}

// volumesFrom returns the binds and volumes of another container.
func (e *Engine) volumesFrom(spec string) ([]container.Mount, error) {
	name, mode, _ := strings.Cut(spec, ":")
	if name == "" || mode != "" && mode != "ro" && mode != "rw" && mode != "z" && mode != "Z" {
		return nil, errdefs.Invalidf("invalid mode: %s", mode)
	}
	a, err := e.containers.find(name)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(a.View().Mounts)
	out = slices.DeleteFunc(out, func(m container.Mount) bool { return m.Type == mount.TypeTmpfs })
	for i := range out {
		if mode == "ro" {
			out[i].RW = false
		}
		// It is labelled already, for one or for all.
		out[i].Mode, out[i].Anonymous, out[i].NoCopy = "", false, true
	}
	return out, nil
}

// checkPropagation refuses a bind whose source has nobody to spread to or to
// receive from, in Docker's words. Errors: Invalid.
func checkPropagation(m container.Mount) error {
	var share, receive bool
	switch m.Propagation {
	case mount.PropagationShared, mount.PropagationRShared:
		share = true
	case mount.PropagationSlave, mount.PropagationRSlave:
		receive = true
	default:
		return nil
	}
	on, err := mounts.Containing(m.Source)
	switch {
	case err != nil:
		return err
	case share && !on.Shared:
		return errdefs.Invalidf("path %s is mounted on %s but it is not a shared mount", m.Source, on.Point)
	case receive && !on.Shared && !on.Slave:
		return errdefs.Invalidf("path %s is mounted on %s but it is not a shared or slave mount", m.Source, on.Point)
	}
	return nil
}
