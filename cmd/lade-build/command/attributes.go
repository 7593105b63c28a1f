package command

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/buildkit/client"

	"lade/internal/build"
	"lade/internal/reference"
)

// attributes are what BuildKit's front end takes.
func attributes(c *build.Command) (map[string]string, error) {
	a := map[string]string{"image-resolve-mode": "default"}
	if c.Pull {
		a["image-resolve-mode"] = "pull"
	}
	if c.NoCache {
		a["no-cache"] = ""
	}
	for name, v := range map[string]string{"target": c.Target, "platform": c.Platform, "ulimit": strings.Join(c.Ulimits, ","), "cgroup-parent": c.GroupPaths} {
		if v != "" {
			a[name] = v
		}
	}
	if c.ShmSize > 0 {
		a["shm-size"] = strconv.FormatInt(c.ShmSize, 10)
	}
	for _, s := range c.Args {
		k, v, ok := strings.Cut(s, "=")
		if !ok {
			if v, ok = os.LookupEnv(k); !ok {
				continue
			}
		}
		a["build-arg:"+k] = v
	}
	for _, s := range c.Labels {
		k, v, _ := strings.Cut(s, "=")
		a["label:"+k] = v
	}
	switch c.Network {
	case "", "default", "bridge":
	case "host", "none":
		a["force-network-mode"] = c.Network
	default:
		return nil, fmt.Errorf("network mode %q is not supported by the builder", c.Network)
	}
	var hosts []string
	for _, h := range c.Hosts {
		name, address, ok := strings.Cut(h, ":")
		if !ok {
			return nil, fmt.Errorf("bad format for add-host: %q", h)
		}
		hosts = append(hosts, name+"="+address)
	}
	if len(hosts) > 0 {
		a["add-hosts"] = strings.Join(hosts, ",")
	}
	return a, nil
}

// fields reads "type=local,dest=out".
func fields(s string) (map[string]string, error) {
	row, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return nil, fmt.Errorf("invalid value %q: %w", s, err)
	}
	out := map[string]string{}
	for _, f := range row {
		k, v, ok := strings.Cut(f, "=")
		if !ok {
			return nil, fmt.Errorf("invalid value %q: %q is not key=value", s, f)
		}
		out[strings.ToLower(k)] = v
	}
	return out, nil
}

// outputs says where the result goes; named, whether to an image of the engine.
func outputs(c *build.Command, o *client.SolveOpt) (named bool, err error) {
	var names []string
	for _, t := range c.Tags {
		ref, err := reference.ParseTagged(t)
		if err != nil {
			return false, fmt.Errorf("invalid tag %q: %w", t, err)
		}
		names = append(names, ref.String())
	}
	list := c.Outputs
	if len(list) == 0 {
		list = []string{"type=docker"}
	}
	if len(list) > 1 {
		return false, errors.New("multiple outputs are not supported")
	}
	a := map[string]string{"type": "local", "dest": list[0]}
	switch {
	case list[0] == "-":
		a["type"] = "tar"
	case strings.Contains(list[0], "="):
		if a, err = fields(list[0]); err != nil {
			return false, err
		}
	}
	e := client.ExportEntry{Type: a["type"], Attrs: a}
	dest := a["dest"]
	delete(a, "type")
	delete(a, "dest")
	switch {
	case (e.Type == "docker" || e.Type == "image") && dest == "":
		e.Type, named = "moby", true
		a["name"] = strings.Join(append(names, nonEmpty(a["name"])...), ",")
	case e.Type == "local":
		if dest == "" {
			return false, errors.New("dest is required for local output")
		}
		e.OutputDir = dest
	case e.Type == "tar" || e.Type == "oci" || e.Type == "docker":
		if a["name"] == "" && e.Type != "tar" && len(names) > 0 {
			a["name"] = strings.Join(names, ",")
		}
		if e.Output, err = file(dest); err != nil {
			return false, err
		}
	default:
		return false, fmt.Errorf("unknown type of output %q", e.Type)
	}
	o.Exports = []client.ExportEntry{e}
	return named, nil
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// file is where an archive goes. Without a path it is the standard output, unless
// that is somebody's screen.
func file(dest string) (func(map[string]string) (io.WriteCloser, error), error) {
	if dest == "" || dest == "-" {
		if fi, err := os.Stdout.Stat(); err == nil && fi.Mode()&os.ModeCharDevice != 0 {
			return nil, errors.New("dest file is required for this output. refusing to write to console")
		}
		return func(map[string]string) (io.WriteCloser, error) { return os.Stdout, nil }, nil
	}
	if fi, err := os.Stat(dest); err == nil && fi.IsDir() {
		return nil, fmt.Errorf("destination file %s is a directory", dest)
	}
	return func(map[string]string) (io.WriteCloser, error) {
		if err := os.MkdirAll(filepath.Dir(dest), 0o755); err != nil {
			return nil, err
		}
		return os.Create(dest)
	}, nil
}

// caches says which other caches are read and written.
func caches(c *build.Command, o *client.SolveOpt) error {
	read := func(list []string) (out []client.CacheOptionsEntry, err error) {
		for _, s := range list {
			a := map[string]string{"type": "registry", "ref": s}
			if strings.Contains(s, "=") {
				if a, err = fields(s); err != nil {
					return nil, err
				}
			}
			e := client.CacheOptionsEntry{Type: a["type"], Attrs: a}
			delete(a, "type")
			out = append(out, e)
		}
		return out, nil
	}
	var err error
	if o.CacheImports, err = read(c.CacheFrom); err != nil {
		return err
	}
	o.CacheExports, err = read(c.CacheTo)
	return err
}
