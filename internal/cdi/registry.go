package cdi

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lade/internal/errdefs"
)

// Dirs are where files are looked for unless the operator says otherwise.
func Dirs() []string { return []string{"/etc/cdi", "/var/run/cdi"} }

// Registry are the devices of a host.
type Registry struct {
	devices map[string]entry // by name
	wrong   []string         // what could not be read, a line each
}

// entry is a device and the file that has it; nil for a name that two files of one
// directory have.
type entry struct {
	file *file
	own  *edits
}

// Read reads the files of directories. What a later directory has goes before what
// an earlier one has.
func Read(dirs []string) *Registry {
	r := &Registry{devices: map[string]entry{}}
	for _, dir := range dirs {
		names, err := os.ReadDir(dir)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				r.wrong = append(r.wrong, err.Error())
			}
			continue
		}
		here := map[string]entry{}
		for _, n := range names {
			if ext := filepath.Ext(n.Name()); n.IsDir() || ext != ".json" && ext != ".yaml" {
				continue
			}
			path := filepath.Join(dir, n.Name())
			f, err := readFile(path)
			if err != nil {
				r.wrong = append(r.wrong, fmt.Sprintf("%s: %s", path, err))
				continue
			}
			for i := range f.Devices {
				name := f.Kind + "=" + f.Devices[i].Name
				if _, twice := here[name]; twice {
					r.wrong = append(r.wrong, fmt.Sprintf("%s: conflicting device %q", path, name))
					here[name] = entry{}
					continue
				}
				here[name] = entry{f, &f.Devices[i].Edits}
			}
		}
		maps.Copy(r.devices, here)
	}
	return r
}

// Names returns the names of all devices, sorted.
func (r *Registry) Names() []string {
	var out []string
	for name, e := range r.devices {
		if e.own != nil {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Wrong returns what could not be read, and why.
func (r *Registry) Wrong() []string { return r.wrong }

// Has reports whether there is a device of a kind, such as nvidia.com/gpu.
func (r *Registry) Has(kind string) bool {
	for name := range r.devices {
		if strings.HasPrefix(name, kind+"=") {
			return true
		}
	}
	return false
}

// Find returns what a container gets for the devices of these names. Errors:
// Invalid, in Docker's words, for names that are not known.
func (r *Registry) Find(names []string) (*Edits, error) {
	out := &Edits{}
	var missing []string
	whole := map[*file]bool{}
	for _, name := range names {
		e := r.devices[name]
		if e.own == nil {
			missing = append(missing, name)
			continue
		}
		if !whole[e.file] { // what all devices of a file need, once
			whole[e.file] = true
			out.list = append(out.list, &e.file.Edits)
		}
		out.list = append(out.list, e.own)
	}
	if len(missing) > 0 {
		why := ""
		if len(r.wrong) > 0 {
			why = " (" + strings.Join(r.wrong, "; ") + ")"
		}
		return nil, errdefs.Invalidf("CDI device injection failed: unresolvable CDI devices %s%s", strings.Join(missing, ", "), why)
	}
	return out, nil
}
