package opt

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/mount"
)

// Mounts is the flag --mount: type=bind,src=…,dst=…[,option…], one CSV record a
// mount.
type Mounts struct {
	values []mount.Mount
	// IDMaps are the maps of binds whose files are translated, by their targets,
	// which the API has no field for; "true" is the container's own.
	IDMaps map[string]string
	// Deprecated collects uses of options that have a better name.
	Deprecated []string
}

// String lists the mounts.
func (m *Mounts) String() string {
	out := make([]string, 0, len(m.values))
	for _, v := range m.values {
		out = append(out, fmt.Sprintf("%s %s %s", v.Type, v.Source, v.Target))
	}
	return strings.Join(out, ", ")
}

// Type is "mount".
func (*Mounts) Type() string { return "mount" }

// Values are the mounts; nil when there are none.
func (m *Mounts) Values() []mount.Mount { return m.values }

// Set parses one mount.
func (m *Mounts) Set(v string) error {
	fields, err := csv.NewReader(strings.NewReader(v)).Read()
	if err != nil {
		return err
	}
	p := mountParser{Mount: mount.Mount{Type: mount.TypeVolume}, flag: m}
	for _, f := range fields {
		key, val, ok := strings.Cut(f, "=")
		key = strings.ToLower(key)
		if !ok {
			// The few options that are true by being there.
			switch key {
			case "readonly", "ro", "volume-nocopy", "bind-nonrecursive", "idmap":
				val = "true"
			default:
				return fmt.Errorf("invalid field '%s' must be a key=value pair", f)
			}
			if key == "bind-nonrecursive" { // said without a warning
				p.bind().NonRecursive = true
				continue
			}
		}
		known, err := p.set(key, val)
		if err != nil {
			return err
		}
		if !known {
			return fmt.Errorf("unexpected key '%s' in '%s'", key, f)
		}
	}
	if err := p.check(); err != nil {
		return err
	}
	m.values = append(m.values, p.Mount)
	if p.idmap != "" {
		if m.IDMaps == nil {
			m.IDMaps = map[string]string{}
		}
		m.IDMaps[p.Target] = p.idmap
	}
	return nil
}

type mountParser struct {
	mount.Mount
	flag  *Mounts
	idmap string
}

func (p *mountParser) bind() *mount.BindOptions {
	if p.BindOptions == nil {
		p.BindOptions = &mount.BindOptions{}
	}
	return p.BindOptions
}

func (p *mountParser) volume() *mount.VolumeOptions {
	if p.VolumeOptions == nil {
		p.VolumeOptions = &mount.VolumeOptions{Labels: map[string]string{}, DriverConfig: &mount.Driver{}}
	}
	return p.VolumeOptions
}

func (p *mountParser) image() *mount.ImageOptions {
	if p.ImageOptions == nil {
		p.ImageOptions = &mount.ImageOptions{}
	}
	return p.ImageOptions
}

func (p *mountParser) tmpfs() *mount.TmpfsOptions {
	if p.TmpfsOptions == nil {
		p.TmpfsOptions = &mount.TmpfsOptions{}
	}
	return p.TmpfsOptions
}

func invalid(key, val string) error { return fmt.Errorf("invalid value for %s: %s", key, val) }

// set applies one key; known is false when no key is called so.
func (p *mountParser) set(key, val string) (known bool, err error) {
	switch key {
	case "type":
		p.Type = mount.Type(strings.ToLower(val))
	case "source", "src":
		p.Source = val
		// "." and ".." are relative to the client's directory, names are volumes.
		if !filepath.IsAbs(val) && strings.HasPrefix(val, ".") {
			if abs, err := filepath.Abs(val); err == nil {
				p.Source = abs
			}
		}
	case "target", "dst", "destination":
		p.Target = val
	case "readonly", "ro":
		if p.ReadOnly, err = strconv.ParseBool(val); err != nil {
			return true, invalid(key, val)
		}
	case "idmap":
		p.idmap = val
		if on, err := strconv.ParseBool(val); err == nil {
			p.idmap = ""
			if on {
				p.idmap = "true"
			}
		}
	case "consistency":
		p.Consistency = mount.Consistency(strings.ToLower(val))
	default:
		for _, f := range []func(string, string) (bool, error){p.setBind, p.setVolume, p.setOther} {
			if known, err := f(key, val); known {
				return true, err
			}
		}
		return false, nil
	}
	return true, nil
}

func (p *mountParser) setBind(key, val string) (known bool, err error) {
	switch key {
	case "bind-propagation":
		p.bind().Propagation = mount.Propagation(strings.ToLower(val))
	case "bind-nonrecursive":
		if p.bind().NonRecursive, err = strconv.ParseBool(val); err != nil {
			return true, invalid(key, val)
		}
		p.flag.Deprecated = append(p.flag.Deprecated, "bind-nonrecursive is deprecated, use bind-recursive=disabled instead")
	case "bind-recursive":
		switch val {
		case "enabled": // what the engine does anyway
		case "disabled":
			p.bind().NonRecursive = true
		case "writable":
			p.bind().ReadOnlyNonRecursive = true
		case "readonly":
			p.bind().ReadOnlyForceRecursive = true
		default:
			return true, fmt.Errorf(`invalid value for %s: %s (must be "enabled", "disabled", "writable", or "readonly")`, key, val)
		}
	default:
		return false, nil
	}
	return true, nil
}

func (p *mountParser) setVolume(key, val string) (known bool, err error) {
	switch key {
	case "volume-subpath":
		p.volume().Subpath = val
	case "volume-nocopy":
		if p.volume().NoCopy, err = strconv.ParseBool(val); err != nil {
			return true, invalid(key, val)
		}
	case "volume-label":
		put(p.volume().Labels, val)
	case "volume-driver":
		p.volume().DriverConfig.Name = val
	case "volume-opt":
		d := p.volume().DriverConfig
		if d.Options == nil {
			d.Options = map[string]string{}
		}
		put(d.Options, val)
	default:
		return false, nil
	}
	return true, nil
}

func (p *mountParser) setOther(key, val string) (known bool, err error) {
	switch key {
	case "image-subpath":
		p.image().Subpath = val
	case "tmpfs-size":
		if p.tmpfs().SizeBytes, err = units.RAMInBytes(val); err != nil {
			return true, invalid(key, val)
		}
	case "tmpfs-mode":
		mode, err := strconv.ParseUint(val, 8, 32)
		if err != nil {
			return true, invalid(key, val)
		}
		p.tmpfs().Mode = os.FileMode(mode)
	default:
		return false, nil
	}
	return true, nil
}

// check looks at what only the whole mount shows.
func (p *mountParser) check() error {
	switch {
	case p.Type == "":
		return errors.New("type is required")
	case p.Target == "":
		return errors.New("target is required")
	case p.idmap != "" && p.Type != mount.TypeBind:
		return fmt.Errorf("cannot mix 'idmap' with mount type '%s'", p.Type)
	}
	for _, o := range []struct {
		given bool
		t     mount.Type
		name  string
	}{
		{p.VolumeOptions != nil, mount.TypeVolume, "volume"},
		{p.ImageOptions != nil, mount.TypeImage, "image"},
		{p.BindOptions != nil, mount.TypeBind, "bind"},
		{p.TmpfsOptions != nil, mount.TypeTmpfs, "tmpfs"},
	} {
		if o.given && p.Type != o.t {
			return fmt.Errorf("cannot mix '%s-*' options with mount type '%s'", o.name, p.Type)
		}
	}
	b := p.BindOptions
	if b == nil {
		return nil
	}
	switch {
	case b.ReadOnlyNonRecursive && !p.ReadOnly:
		return errors.New("option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction")
	case b.ReadOnlyForceRecursive && !p.ReadOnly:
		return errors.New("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction")
	case b.ReadOnlyForceRecursive && b.Propagation != mount.PropagationRPrivate:
		return errors.New("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction")
	}
	return nil
}

func put(m map[string]string, pair string) {
	if k, v, _ := strings.Cut(pair, "="); k != "" {
		m[k] = v
	}
}
