package cni

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"lade/internal/errdefs"
)

// versions are those of the specification that a configuration may be written
// for. In older ones results have another form.
var versions = []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0"}

// Dirs are where configurations and plugins are, in the order of search.
type Dirs struct {
	Conf []string
	Bin  []string
}

// Usual returns the directories of the specification's own tools and of Debian.
func Usual() Dirs {
	return Dirs{Conf: []string{"/etc/cni/net.d"}, Bin: []string{"/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"}}
}

// Conf is a network configuration: plugins that are asked one after the other.
type Conf struct {
	Version      string            `json:"cniVersion"`
	Name         string            `json:"name"`
	DisableCheck bool              `json:"disableCheck,omitempty"`
	Plugins      []json.RawMessage `json:"plugins"`
}

// plugin is what every plugin's own part says.
type plugin struct {
	Type         string          `json:"type"`
	Capabilities map[string]bool `json:"capabilities"`
}

// Find returns the configuration with a name: what a file in Conf says is its
// name, or the name of the file. Errors: NotFound, and Invalid for one that cannot
// be used.
func (d Dirs) Find(name string) (*Conf, error) {
	if name == "" || name != filepath.Base(name) {
		return nil, errdefs.Invalidf("invalid name %q of a CNI configuration", name)
	}
	for _, dir := range d.Conf {
		entries, err := os.ReadDir(dir) // in the order of their names
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, errdefs.Invalidf("CNI configurations: %w", err)
		}
		for _, e := range entries {
			base, ext := strings.TrimSuffix(e.Name(), filepath.Ext(e.Name())), filepath.Ext(e.Name())
			if !slices.Contains([]string{".conflist", ".conf", ".json"}, ext) {
				continue
			}
			raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, errdefs.Invalidf("CNI configurations: %w", err)
			}
			c, err := parse(raw)
			if c.Name != name && base != name {
				continue // whatever is wrong with it
			}
			if err != nil {
				return nil, errdefs.Invalidf("CNI configuration %s: %w", filepath.Join(dir, e.Name()), err)
			}
			return c, c.check(d.Bin)
		}
	}
	return nil, errdefs.NotFoundf("CNI configuration %q not found in %s", name, strings.Join(d.Conf, ", "))
}

// parse reads a list of plugins, or the configuration of one. The Conf is there
// also with an error.
func parse(raw []byte) (*Conf, error) {
	var c Conf
	if err := json.Unmarshal(raw, &c); err != nil {
		return &c, err
	}
	if c.Plugins == nil {
		var p plugin
		if err := json.Unmarshal(raw, &p); err != nil || p.Type == "" {
			return &c, errors.Join(err, errors.New("it names no plugin"))
		}
		c.Plugins = []json.RawMessage{raw}
	}
	if len(c.Plugins) == 0 {
		return &c, errors.New("it names no plugin")
	}
	return &c, nil
}

// name of a network. Source: spec, "Configuration format".
var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// check refuses what cannot be run.
func (c *Conf) check(bins []string) error {
	if !validName.MatchString(c.Name) {
		return errdefs.Invalidf("CNI configuration: invalid name %q", c.Name)
	}
	if !slices.Contains(versions, c.Version) {
		return errdefs.Invalidf("CNI configuration %s: version %q is none of %s", c.Name, c.Version, strings.Join(versions, ", "))
	}
	for _, raw := range c.Plugins {
		var p plugin
		if err := json.Unmarshal(raw, &p); err != nil {
			return errdefs.Invalidf("CNI configuration %s: %w", c.Name, err)
		}
		if _, err := program(bins, p.Type); err != nil {
			return errdefs.Invalidf("CNI configuration %s: %w", c.Name, err)
		}
	}
	return nil
}

// Can reports whether a plugin says that it has a capability.
func (c *Conf) Can(capability string) bool {
	return slices.ContainsFunc(c.Plugins, func(raw json.RawMessage) bool {
		var p plugin
		return json.Unmarshal(raw, &p) == nil && p.Capabilities[capability]
	})
}

// program returns the path of a plugin.
func program(bins []string, name string) (string, error) {
	if name == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return "", errdefs.Invalidf("invalid name %q of a plugin", name)
	}
	for _, dir := range bins {
		path := filepath.Join(dir, name)
		if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() && fi.Mode().Perm()&0o111 != 0 {
			return path, nil
		}
	}
	return "", errdefs.NotFoundf("plugin %q not found in %s", name, strings.Join(bins, ", "))
}
