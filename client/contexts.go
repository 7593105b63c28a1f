package client

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/docker/go-connections/tlsconfig"

	"lade/internal/errdefs"
)

// Contexts is the store of contexts below a client directory:
// contexts/meta/<sha256 of the name>/meta.json and
// contexts/tls/<sha256>/docker/{ca,cert,key}.pem.
type Contexts string

// Context is one stored context. Metadata keeps what it does not know.
type Context struct {
	Name      string
	Metadata  map[string]any
	Endpoints map[string]ContextEndpoint
	Storage   map[string]string `json:",omitempty"` // filled for inspect, never stored
}

// ContextEndpoint is how a context reaches its engine.
type ContextEndpoint struct {
	Host          string `json:",omitempty"`
	SkipTLSVerify bool
}

// Description is the context's text for people.
func (c *Context) Description() string {
	s, _ := c.Metadata["Description"].(string)
	return s
}

func (s Contexts) dir(kind, name string) string {
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(string(s), "contexts", kind, hex.EncodeToString(sum[:]))
}

// MetaPath is where the context's record lies, TLSPath where its keys lie.
func (s Contexts) MetaPath(name string) string { return s.dir("meta", name) }

// TLSPath is the directory of the context's certificates and key.
func (s Contexts) TLSPath(name string) string { return s.dir("tls", name) }

// Get reads one context. Errors: NotFound.
func (s Contexts) Get(name string) (*Context, error) {
	b, err := os.ReadFile(filepath.Join(s.MetaPath(name), "meta.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errdefs.NotFoundf("context %q: context not found: open %s: no such file or directory", name, filepath.Join(s.MetaPath(name), "meta.json"))
	}
	if err != nil {
		return nil, err
	}
	c := &Context{}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("context %q: %w", name, err)
	}
	return c, nil
}

// List reads all contexts, ordered by name.
func (s Contexts) List() ([]*Context, error) {
	dirs, err := os.ReadDir(filepath.Join(string(s), "contexts", "meta"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []*Context
	for _, d := range dirs {
		b, err := os.ReadFile(filepath.Join(string(s), "contexts", "meta", d.Name(), "meta.json"))
		if err != nil {
			continue // not a context, or just removed
		}
		c := &Context{}
		if err := json.Unmarshal(b, c); err != nil {
			return nil, fmt.Errorf("context %s: %w", d.Name(), err)
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *Context) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// ValidContextName says whether a context may be called so.
func ValidContextName(name string) error {
	switch {
	case name == "":
		return errors.New("context name cannot be empty")
	case name == DefaultContext:
		return errors.New(`"default" is a reserved context name`)
	case !regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$`).MatchString(name):
		return fmt.Errorf("context name %q is invalid, names are validated against regexp %q", name, "^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$")
	}
	return nil
}

// Put writes c and its TLS files (base name → content); nil leaves those alone.
func (s Contexts) Put(c *Context, files map[string][]byte) error {
	if err := ValidContextName(c.Name); err != nil {
		return err
	}
	b, err := json.Marshal(struct {
		Name      string
		Metadata  map[string]any
		Endpoints map[string]ContextEndpoint
	}{c.Name, c.Metadata, c.Endpoints})
	if err != nil {
		return err
	}
	if files != nil {
		if err := os.RemoveAll(s.TLSPath(c.Name)); err != nil {
			return err
		}
	}
	for base, content := range files {
		if err := replaceFile(filepath.Join(s.TLSPath(c.Name), "docker", base), content); err != nil {
			return err
		}
	}
	return replaceFile(filepath.Join(s.MetaPath(c.Name), "meta.json"), b)
}

// Remove forgets a context and its keys. Removing a missing one is NotFound.
func (s Contexts) Remove(name string) error {
	if _, err := s.Get(name); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(s.MetaPath(name)), os.RemoveAll(s.TLSPath(name)))
}

// TLSFiles reads a context's certificates and key, by base name.
func (s Contexts) TLSFiles(name string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, base := range []string{"ca.pem", "cert.pem", "key.pem"} {
		b, err := os.ReadFile(filepath.Join(s.TLSPath(name), "docker", base))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files[base] = b
	}
	return files, nil
}

// Endpoint opens a context for use.
func (s Contexts) Endpoint(name string) (*Endpoint, error) {
	c, err := s.Get(name)
	if err != nil {
		return nil, err
	}
	ce, ok := c.Endpoints["docker"]
	if !ok {
		return nil, fmt.Errorf("context %q has no docker endpoint", name)
	}
	e := &Endpoint{Context: name, Chosen: true}
	files, err := s.TLSFiles(name)
	if err != nil {
		return nil, err
	}
	if len(files) > 0 || ce.SkipTLSVerify {
		if e.TLS, err = tlsFrom(files, ce.SkipTLSVerify); err != nil {
			return nil, fmt.Errorf("context %q: %w", name, err)
		}
	}
	e.Host, err = ParseHost(ce.Host, e.TLS != nil)
	return e, err
}

func tlsFrom(files map[string][]byte, skipVerify bool) (*tls.Config, error) {
	c := tlsconfig.ClientDefault()
	c.InsecureSkipVerify = skipVerify
	if ca := files["ca.pem"]; ca != nil {
		if err := trust(c, ca); err != nil {
			return nil, err
		}
	}
	if cert, key := files["cert.pem"], files["key.pem"]; cert != nil || key != nil {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// replaceFile writes path by rename; directories and file are the user's only.
func replaceFile(path string, content []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
