package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
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
	"lade/internal/ids"
	mounts "lade/internal/linux/mount"
)

// propagations are the modes of a bind mount's propagation.
//
// Source: mount(8), "Shared subtree operations".
var propagations = [...]string{"private", "rprivate", "slave", "rslave", "shared", "rshared"}

// mounts resolves all that a create request says about mounts, in Docker's
// order of precedence: volumes of other containers, binds, mounts, and the
// image's anonymous volumes where nothing else is mounted. Volumes are made;
// undo removes those that did not exist before.
func (e *Engine) mounts(ctx context.Context, id string, c *apicontainer.Config, hc *apicontainer.HostConfig) (out []container.Mount, undo func(), err error) {
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
	seen := map[string]bool{}
	for _, b := range hc.Binds {
		m, err := parseBind(b)
		if err != nil {
			return nil, nil, err
		}
		if seen[m.Destination] {
			return nil, nil, errdefs.Invalidf("Duplicate mount point: %s", m.Destination)
		}
		seen[m.Destination] = true
		put(m)
	}
	for _, spec := range hc.Mounts {
		m, err := parseMount(spec)
		if err != nil {
			return nil, nil, err
		}
		if seen[m.Destination] {
			return nil, nil, errdefs.Invalidf("Duplicate mount point: %s", m.Destination)
		}
		seen[m.Destination] = true
		put(m)
	}
	for dest := range hc.Tmpfs {
		if seen[path.Clean(dest)] {
			return nil, nil, errdefs.Invalidf("Duplicate mount point: %s", dest)
		}
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

// parseBind reads the -v form: [source:]destination[:options].
func parseBind(spec string) (container.Mount, error) {
	var m container.Mount
	m.RW = true
	parts := strings.Split(spec, ":")
	switch {
	case len(parts) == 1 && parts[0] != "":
		m.Destination = parts[0]
	case len(parts) == 2 && parts[0] != "" && parts[1] != "":
		m.Source, m.Destination = parts[0], parts[1]
		if !path.IsAbs(m.Destination) && path.IsAbs(m.Source) && validOptions(parts[1]) {
			m.Source, m.Destination, m.Mode = "", parts[0], parts[1]
		}
	case len(parts) == 3 && parts[0] != "" && parts[1] != "":
		m.Source, m.Destination, m.Mode = parts[0], parts[1], parts[2]
	default:
		return m, errdefs.Invalidf("invalid volume specification: '%s'", spec)
	}
	if !path.IsAbs(m.Destination) {
		return m, errdefs.Invalidf("invalid volume specification: '%s': invalid mount config for type %q: invalid mount path: '%s' mount path must be absolute", spec, kindOf(m.Source), m.Destination)
	}
	if m.Destination = path.Clean(m.Destination); m.Destination == "/" {
		return m, errdefs.Invalidf("invalid volume specification: '%s': invalid mount config for type %q: invalid specification: destination can't be '/'", spec, kindOf(m.Source))
	}
	m.Type = kindOf(m.Source)
	if m.Type == mount.TypeBind {
		m.Source = path.Clean(m.Source)
		m.Propagation = mount.PropagationRPrivate
	} else {
		m.Name, m.Source = m.Source, ""
		if m.Name != "" && !ids.ValidName(m.Name) {
			return m, errdefs.Invalidf("create %s: %q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path", m.Name, m.Name)
		}
		if m.Mode == "" && m.Name != "" {
			m.Mode = "z"
		}
	}
	for opt := range strings.SplitSeq(m.Mode, ",") {
		switch {
		case opt == "" || opt == "rw" || opt == "z" || opt == "Z" || opt == "consistent" || opt == "cached" || opt == "delegated":
		case opt == "ro":
			m.RW = false
		case opt == "nocopy" && m.Type == mount.TypeVolume:
			m.NoCopy = true
		case isIDMap(opt) && m.Type == mount.TypeBind:
			m.Options = append(m.Options, opt)
		case slices.Contains(propagations[:], opt) && m.Type == mount.TypeBind:
			m.Propagation = mount.Propagation(opt)
		default:
			return m, errdefs.Invalidf("invalid mode: %s", m.Mode)
		}
	}
	return m, nil
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

func kindOf(source string) mount.Type {
	if path.IsAbs(source) {
		return mount.TypeBind
	}
	return mount.TypeVolume
}

func validOptions(s string) bool {
	for o := range strings.SplitSeq(s, ",") {
		if o != "ro" && o != "rw" && o != "z" && o != "Z" && !isIDMap(o) && !slices.Contains(propagations[:], o) {
			return false
		}
	}
	return true
}

// parseMount reads an entry of HostConfig.Mounts.
func parseMount(spec mount.Mount) (container.Mount, error) {
	var m container.Mount
	bad := func(format string, a ...any) (container.Mount, error) {
		return m, errdefs.Invalidf("invalid mount config for type %q: "+format, append([]any{spec.Type}, a...)...)
	}
	switch {
	case spec.Target == "":
		return bad("field Target must not be empty")
	case !path.IsAbs(spec.Target):
		return bad("invalid mount path: '%s' mount path must be absolute", spec.Target)
	case path.Clean(spec.Target) == "/":
		return bad("invalid specification: destination can't be '/'")
	case spec.BindOptions != nil && spec.Type != mount.TypeBind:
		return bad("field BindOptions must not be specified")
	case spec.VolumeOptions != nil && spec.Type != mount.TypeVolume:
		return bad("field VolumeOptions must not be specified")
	case spec.ImageOptions != nil && spec.Type != mount.TypeImage:
		return bad("field ImageOptions must not be specified")
	case spec.TmpfsOptions != nil && spec.Type != mount.TypeTmpfs:
		return bad("field TmpfsOptions must not be specified")
	}
	m.Type, m.Destination, m.RW = spec.Type, path.Clean(spec.Target), !spec.ReadOnly
	switch spec.Type {
	case mount.TypeBind:
		if spec.Source == "" {
			return bad("field Source must not be empty")
		}
		if !path.IsAbs(spec.Source) {
			return bad("invalid mount path: '%s' mount path must be absolute", spec.Source)
		}
		m.Source, m.Propagation = path.Clean(spec.Source), mount.PropagationRPrivate
		if o := spec.BindOptions; o != nil {
			if o.Propagation != "" {
				if !slices.Contains(propagations[:], string(o.Propagation)) {
					return bad("invalid propagation mode: %s", o.Propagation)
				}
				m.Propagation = o.Propagation
			}
			if o.NonRecursive {
				m.Options = append(m.Options, "bind")
			}
			switch {
			case o.ReadOnlyNonRecursive && o.ReadOnlyForceRecursive:
				return bad("mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive")
			case spec.ReadOnly && o.ReadOnlyNonRecursive:
				m.Options = append(m.Options, "ro")
			case spec.ReadOnly && o.ReadOnlyForceRecursive:
				m.Options = append(m.Options, "rro")
			}
			if o.CreateMountpoint {
				if err := os.MkdirAll(m.Source, 0o755); err != nil {
					return bad("bind source path could not be created: %s", err)
				}
			}
		}
		if _, err := os.Stat(m.Source); errors.Is(err, fs.ErrNotExist) {
			return bad("bind source path does not exist: %s", m.Source)
		}
	case mount.TypeVolume:
		m.Name, m.Mode = spec.Source, "z"
		if o := spec.VolumeOptions; o != nil {
			m.NoCopy, m.Subpath = o.NoCopy, o.Subpath
			if o.DriverConfig != nil {
				m.Driver = o.DriverConfig.Name
			}
			if m.Subpath != "" && !fs.ValidPath(m.Subpath) {
				return bad("subpath must be a relative path within the volume")
			}
		}
	case mount.TypeTmpfs:
		if spec.Source != "" {
			return bad("field Source must not be specified")
		}
		if o := spec.TmpfsOptions; o != nil {
			if o.SizeBytes > 0 {
				m.Options = append(m.Options, "size="+strconv.FormatInt(o.SizeBytes, 10))
			}
			if o.Mode != 0 {
				m.Options = append(m.Options, "mode="+strconv.FormatUint(uint64(o.Mode.Perm()), 8))
			}
			for _, opt := range o.Options {
				m.Options = append(m.Options, strings.Join(opt, "="))
			}
		}
	case mount.TypeImage:
		if spec.Source == "" {
			return bad("field Source must not be empty")
		}
		m.Name, m.RW = spec.Source, false // whatever was asked for: an image does not change
		if o := spec.ImageOptions; o != nil {
			m.Subpath = o.Subpath
			if m.Subpath != "" && !fs.ValidPath(m.Subpath) {
				return bad("subpath must be a relative path within the volume") // Docker has one rule for both
			}
		}
	case mount.TypeNamedPipe, mount.TypeCluster:
		return m, errdefs.NotImplementedf("mounts of type %q are not implemented yet", spec.Type)
	default:
		return m, errdefs.Invalidf("mount type unknown: %q", spec.Type)
	}
	return m, nil
}
