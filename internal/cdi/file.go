package cdi

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"gopkg.in/yaml.v3"

	"lade/internal/errdefs"
)

// file is a file of the interface, in its own words.
type file struct {
	Version     string            `json:"cdiVersion"`
	Kind        string            `json:"kind"`
	Annotations map[string]string `json:"annotations"`
	Devices     []named           `json:"devices"`
	Edits       edits             `json:"containerEdits"`
}

type named struct {
	Name        string            `json:"name"`
	Annotations map[string]string `json:"annotations"`
	Edits       edits             `json:"containerEdits"`
}

// edits are what a container gets.
type edits struct {
	Env         []string             `json:"env"`
	DeviceNodes []node               `json:"deviceNodes"`
	NetDevices  []netDevice          `json:"netDevices"`
	Hooks       []hook               `json:"hooks"`
	Mounts      []mount              `json:"mounts"`
	IntelRDT    *specs.LinuxIntelRdt `json:"intelRdt"`
	GIDs        []uint32             `json:"additionalGids"`
}

type node struct {
	Path        string       `json:"path"`
	HostPath    string       `json:"hostPath"` // "": Path
	Type        string       `json:"type"`     // b, c, u or p; "": as on the host
	Major       int64        `json:"major"`
	Minor       int64        `json:"minor"`
	FileMode    *fs.FileMode `json:"fileMode"`
	Permissions string       `json:"permissions"` // of the control group; "": rwm
	UID         *uint32      `json:"uid"`
	GID         *uint32      `json:"gid"`
}

type netDevice struct {
	Host string `json:"hostInterfaceName"`
	Name string `json:"name"`
}

type hook struct {
	Name    string   `json:"hookName"`
	Path    string   `json:"path"`
	Args    []string `json:"args"`
	Env     []string `json:"env"`
	Timeout *int     `json:"timeout"` // seconds
}

type mount struct {
	HostPath      string   `json:"hostPath"`
	ContainerPath string   `json:"containerPath"`
	Options       []string `json:"options"`
	Type          string   `json:"type"`
}

// versions are those whose files are read.
var versions = []string{"0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"}

// The names of hooks, as in the OCI runtime-spec.
var hooks = []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}

// limit is the largest file that is read, in bytes.
const limit = 4 << 20

// readFile reads a file. Errors: Invalid for what breaks the specification.
func readFile(path string) (*file, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > limit {
		return nil, errdefs.Invalidf("no file of at most %d bytes", limit)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parse(b)
}

// parse reads YAML, of which JSON is a part. Errors: Invalid.
func parse(b []byte) (*file, error) {
	var v map[string]any
	if err := yaml.Unmarshal(b, &v); err != nil {
		return nil, errdefs.Invalidf("%w", err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, errdefs.Invalidf("%w", err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	f := &file{}
	if err := d.Decode(f); err != nil {
		return nil, errdefs.Invalidf("%w", err)
	}
	return f, f.check()
}

func (f *file) check() error {
	if !slices.Contains(versions, f.Version) {
		return errdefs.Invalidf("invalid cdiVersion %q", f.Version)
	}
	if vendor, class, ok := strings.Cut(f.Kind, "/"); !ok || !isVendor(vendor) || !isClass(class) {
		return errdefs.Invalidf("invalid kind %q", f.Kind)
	}
	if len(f.Devices) == 0 {
		return errdefs.Invalidf("no devices")
	}
	seen := map[string]bool{}
	for _, d := range f.Devices {
		if !isDevice(d.Name) || seen[d.Name] {
			return errdefs.Invalidf("invalid device name %q, or two of them", d.Name)
		}
		seen[d.Name] = true
		if err := d.Edits.check(); err != nil {
			return err
		}
	}
	return f.Edits.check()
}

func (e *edits) check() error {
	for _, v := range e.Env {
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" {
			return errdefs.Invalidf("invalid environment variable %q", v)
		}
	}
	for _, n := range e.DeviceNodes {
		if n.Path == "" || !slices.Contains([]string{"", "b", "c", "u", "p"}, n.Type) || strings.Trim(n.Permissions, "rwm") != "" {
			return errdefs.Invalidf("invalid device node %q", n.Path)
		}
	}
	for _, h := range e.Hooks {
		if !slices.Contains(hooks, h.Name) || h.Path == "" {
			return errdefs.Invalidf("invalid hook %q %q", h.Name, h.Path)
		}
	}
	for _, m := range e.Mounts {
		if m.HostPath == "" || m.ContainerPath == "" {
			return errdefs.Invalidf("invalid mount of %q at %q", m.HostPath, m.ContainerPath)
		}
	}
	for _, n := range e.NetDevices {
		if n.Host == "" || n.Name == "" {
			return errdefs.Invalidf("invalid network device %q", n.Host)
		}
	}
	return nil
}

func isVendor(s string) bool {
	return regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9._-]*[A-Za-z0-9])?$`).MatchString(s)
}

func isClass(s string) bool {
	return regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9_-]*[A-Za-z0-9])?$`).MatchString(s)
}

func isDevice(s string) bool {
	return regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?$`).MatchString(s)
}
