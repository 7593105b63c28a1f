package bundle

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"lade/internal/errdefs"
)

// Runtime says which runtime a container has, and how it is called.
type Runtime struct {
	Name string   `json:"name"`
	Kind string   `json:"kind"` // KindOCI or KindLXC
	Path string   `json:"path"` // of the program; without a slash it is looked for in PATH
	Args []string `json:"args,omitempty"`
}

// Kinds of runtimes.
const (
	KindOCI = "oci" // with the command line of runc
	KindLXC = "lxc" // the commands of liblxc
)

// Bundle is a container's directory.
type Bundle struct {
	Dir     string
	ID      string
	Runtime Runtime
	// ReadOnlyTrees says that the runtime cannot make a bind read-only with what is
	// mounted below it.
	ReadOnlyTrees bool
}

// Dir returns the directory of a container's bundle below a supervisor's root.
func Dir(root, id string) string { return filepath.Join(root, "bundles", id) }

// Create makes a bundle, in the place of one that a lost supervisor left
// behind.
func Create(root, id string, r Runtime) (*Bundle, error) {
	b := &Bundle{Dir: Dir(root, id), ID: id, Runtime: r}
	if err := os.RemoveAll(b.Dir); err != nil {
		return nil, err
	}
	for _, d := range []string{b.Dir, b.Rootfs(), b.State()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	return b, b.WriteJSON("runtime.json", r)
}

// Open returns the bundle that a container has. A directory without runtime.json
// was being made or removed when its supervisor was lost: nothing but it is left,
// and it is removed. Errors: NotFound.
func Open(root, id string) (*Bundle, error) {
	b := &Bundle{Dir: Dir(root, id), ID: id}
	raw, err := os.ReadFile(b.Path("runtime.json"))
	if errors.Is(err, fs.ErrNotExist) {
		if err := b.Remove(); err != nil {
			return nil, err
		}
		return nil, errdefs.NotFoundf("container %s has no bundle", id)
	}
	if err == nil {
		err = json.Unmarshal(raw, &b.Runtime)
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Path returns the path of a file of the bundle.
func (b *Bundle) Path(name string) string { return filepath.Join(b.Dir, name) }

// Rootfs is where the root is mounted, for the runtime.
func (b *Bundle) Rootfs() string { return b.Path("rootfs") }

// State is the directory for what the runtime keeps.
func (b *Bundle) State() string { return b.Path("state") }

// WriteJSON writes a file of the bundle; nobody sees a part of it.
func (b *Bundle) WriteJSON(name string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Write(name, raw)
}

// Write is WriteJSON for other files.
func (b *Bundle) Write(name string, content []byte) error {
	tmp := b.Path("." + name)
	if err := os.WriteFile(tmp, content, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, b.Path(name))
}

// Started reports whether the container's command was started.
func (b *Bundle) Started() bool {
	_, err := os.Lstat(b.Path("started"))
	return err == nil
}

// SetStarted notes that it was.
func (b *Bundle) SetStarted() error { return b.Write("started", nil) }

// Remove removes the directory. What is gone already is no error.
func (b *Bundle) Remove() error { return os.RemoveAll(b.Dir) }
