package engine

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/mount"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/ids"
)

// propagations are the modes of a bind mount's propagation.
//
// Source: mount(8), "Shared subtree operations".
var propagations = [...]string{"private", "rprivate", "slave", "rslave", "shared", "rshared"}

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
			if err := translateBind(&m, opt); err != nil {
				return m, err
			}
		case slices.Contains(propagations[:], opt) && m.Type == mount.TypeBind:
			m.Propagation = mount.Propagation(opt)
		default:
			return m, errdefs.Invalidf("invalid mode: %s", m.Mode)
		}
	}
	return m, nil
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

// parseMount reads an entry of HostConfig.Mounts. Errors: Invalid in Docker's
// words, NotImplemented for a type that is not there.
func parseMount(s mount.Mount) (container.Mount, error) {
	switch {
	case s.Target == "":
		return container.Mount{}, badMount(s, "field Target must not be empty")
	case !path.IsAbs(s.Target):
		return container.Mount{}, badMount(s, "invalid mount path: '%s' mount path must be absolute", s.Target)
	case path.Clean(s.Target) == "/":
		return container.Mount{}, badMount(s, "invalid specification: destination can't be '/'")
	case s.BindOptions != nil && s.Type != mount.TypeBind:
		return container.Mount{}, badMount(s, "field BindOptions must not be specified")
	case s.VolumeOptions != nil && s.Type != mount.TypeVolume:
		return container.Mount{}, badMount(s, "field VolumeOptions must not be specified")
	case s.ImageOptions != nil && s.Type != mount.TypeImage:
		return container.Mount{}, badMount(s, "field ImageOptions must not be specified")
	case s.TmpfsOptions != nil && s.Type != mount.TypeTmpfs:
		return container.Mount{}, badMount(s, "field TmpfsOptions must not be specified")
	}
	var m container.Mount
	m.Type, m.Destination, m.RW = s.Type, path.Clean(s.Target), !s.ReadOnly
	var err error
	switch s.Type {
	case mount.TypeBind:
		err = parseBindMount(&m, s)
	case mount.TypeVolume:
		err = parseVolumeMount(&m, s)
	case mount.TypeTmpfs:
		err = parseTmpfsMount(&m, s)
	case mount.TypeImage:
		err = parseImageMount(&m, s)
	case mount.TypeNamedPipe, mount.TypeCluster:
		err = errdefs.NotImplementedf("mounts of type %q are not implemented yet", s.Type)
	default:
		err = errdefs.Invalidf("mount type unknown: %q", s.Type)
	}
	return m, err
}

// badMount is an error about an entry of HostConfig.Mounts.
func badMount(s mount.Mount, format string, a ...any) error {
	return errdefs.Invalidf("invalid mount config for type %q: "+format, append([]any{s.Type}, a...)...)
}

// parseBindMount also makes the source, where the entry says so: as Docker does,
// when the container is created.
func parseBindMount(m *container.Mount, s mount.Mount) error {
	if s.Source == "" {
		return badMount(s, "field Source must not be empty")
	}
	if !path.IsAbs(s.Source) {
		return badMount(s, "invalid mount path: '%s' mount path must be absolute", s.Source)
	}
	m.Source, m.Propagation = path.Clean(s.Source), mount.PropagationRPrivate
	if o := s.BindOptions; o != nil {
		if o.Propagation != "" {
			if !slices.Contains(propagations[:], string(o.Propagation)) {
				return badMount(s, "invalid propagation mode: %s", o.Propagation)
			}
			m.Propagation = o.Propagation
		}
		if o.NonRecursive {
			m.Options = append(m.Options, "bind")
		}
		switch {
		case o.ReadOnlyNonRecursive && o.ReadOnlyForceRecursive:
			return badMount(s, "mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive")
		case s.ReadOnly && o.ReadOnlyNonRecursive:
			m.Options = append(m.Options, "ro")
		case s.ReadOnly && o.ReadOnlyForceRecursive:
			m.Options = append(m.Options, "rro")
		}
		if o.CreateMountpoint {
			if err := os.MkdirAll(m.Source, 0o755); err != nil {
				return badMount(s, "bind source path could not be created: %s", err)
			}
		}
	}
	if _, err := os.Stat(m.Source); errors.Is(err, fs.ErrNotExist) {
		return badMount(s, "bind source path does not exist: %s", m.Source)
	}
	return nil
}

func parseVolumeMount(m *container.Mount, s mount.Mount) error {
	m.Name, m.Mode = s.Source, "z"
	o := s.VolumeOptions
	if o == nil {
		return nil
	}
	m.NoCopy, m.Subpath = o.NoCopy, o.Subpath
	if o.DriverConfig != nil {
		m.Driver = o.DriverConfig.Name
	}
	if m.Subpath != "" && !fs.ValidPath(m.Subpath) {
		return badMount(s, "subpath must be a relative path within the volume")
	}
	return nil
}

func parseTmpfsMount(m *container.Mount, s mount.Mount) error {
	if s.Source != "" {
		return badMount(s, "field Source must not be specified")
	}
	o := s.TmpfsOptions
	if o == nil {
		return nil
	}
	if o.SizeBytes > 0 {
		m.Options = append(m.Options, "size="+strconv.FormatInt(o.SizeBytes, 10))
	}
	if o.Mode != 0 {
		// Clients send the bits of chmod(2), also those that are others in an fs.FileMode.
		m.Options = append(m.Options, "mode="+strconv.FormatUint(uint64(o.Mode)&0o7777, 8))
	}
	for _, opt := range o.Options {
		m.Options = append(m.Options, strings.Join(opt, "="))
	}
	return nil
}

func parseImageMount(m *container.Mount, s mount.Mount) error {
	if s.Source == "" {
		return badMount(s, "field Source must not be empty")
	}
	m.Name, m.RW = s.Source, false // whatever was asked for: an image does not change
	if o := s.ImageOptions; o != nil {
		m.Subpath = o.Subpath
		if m.Subpath != "" && !fs.ValidPath(m.Subpath) {
			return badMount(s, "subpath must be a relative path within the volume") // Docker has one rule for both
		}
	}
	return nil
}
