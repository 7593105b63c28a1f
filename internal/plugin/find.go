package plugin

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lade/internal/errdefs"
	"lade/internal/tlsfile"
)

// Dirs are where plugins say where they are.
type Dirs struct {
	Sockets []string // NAME.sock and NAME/NAME.sock
	Specs   []string // NAME.spec and NAME.json
}

// Docker returns the directories of Docker.
func Docker() Dirs {
	return Dirs{Sockets: []string{"/run/docker/plugins"}, Specs: []string{"/etc/docker/plugins", "/usr/lib/docker/plugins"}}
}

// Address is where a plugin is.
type Address struct {
	Name string
	Addr string // unix:///path or tcp://host:port
	TLS  *TLS   `json:"TLSConfig"`
}

// TLS is how a plugin's connection is encrypted.
type TLS struct {
	InsecureSkipVerify        bool
	CAFile, CertFile, KeyFile string
}

// Find returns the address of a plugin. Errors: NotFound; Invalid for a name
// that is no file's, or for a file that says no address.
func (d Dirs) Find(name string) (Address, error) {
	if name == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return Address{}, errdefs.Invalidf("invalid plugin name %q", name)
	}
	for _, dir := range d.Sockets {
		for _, p := range []string{filepath.Join(dir, name+".sock"), filepath.Join(dir, name, name+".sock")} {
			if fi, err := os.Stat(p); err == nil && fi.Mode().Type() == fs.ModeSocket {
				return Address{Name: name, Addr: "unix://" + p}, nil
			}
		}
	}
	for _, dir := range d.Specs {
		for _, p := range []string{filepath.Join(dir, name+".spec"), filepath.Join(dir, name, name+".spec"), filepath.Join(dir, name+".json"), filepath.Join(dir, name, name+".json")} {
			b, err := os.ReadFile(p)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return Address{}, errdefs.Invalidf("plugin %s: %w", name, err)
			}
			a := Address{Name: name, Addr: strings.TrimSpace(string(b))}
			if filepath.Ext(p) == ".json" {
				a.Addr = ""
				if err := json.Unmarshal(b, &a); err != nil {
					return Address{}, errdefs.Invalidf("plugin %s: %s: %w", name, p, err)
				}
			}
			if _, _, err := a.split(); err != nil {
				return Address{}, errdefs.Invalidf("plugin %s: %s: %w", name, p, err)
			}
			return a, nil
		}
	}
	return Address{}, errdefs.NotFoundf("plugin %q not found", name)
}

// Names returns the names of all plugins that say where they are, sorted. A
// directory that cannot be read has none.
func (d Dirs) Names() []string {
	var names []string
	look := func(dirs []string, ext ...string) {
		for _, dir := range dirs {
			entries, err := os.ReadDir(dir)
			if err != nil {
				continue // most hosts have no such directory
			}
			for _, e := range entries {
				name := e.Name()
				if e.IsDir() {
					names = append(names, name) // NAME/NAME.sock, perhaps: Find tells
				} else if x := filepath.Ext(name); slices.Contains(ext, x) {
					names = append(names, strings.TrimSuffix(name, x))
				}
			}
		}
	}
	look(d.Sockets, ".sock")
	look(d.Specs, ".spec", ".json")
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool {
		_, err := d.Find(name)
		return err != nil
	})
}

// split returns the network and the address for a dialer.
func (a Address) split() (network, addr string, err error) {
	u, err := url.Parse(a.Addr)
	switch {
	case err != nil:
		return "", "", err
	case u.Scheme == "unix" && filepath.IsAbs(u.Path):
		return "unix", u.Path, nil
	case (u.Scheme == "tcp" || u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
		return "tcp", u.Host, nil
	}
	return "", "", errdefs.Invalidf("invalid address %q: must be unix:///path or tcp://host:port", a.Addr)
}

// client returns a client for the address, and what its URLs begin with.
func (a Address) client() (*http.Client, string, error) {
	network, addr, err := a.split()
	if err != nil {
		return nil, "", err
	}
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
		MaxIdleConnsPerHost: 16,
	}
	c := &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if network == "unix" {
		return c, "http://plugin", nil
	}
	if a.TLS == nil {
		return c, "http://" + addr, nil
	}
	t.TLSClientConfig, err = a.TLS.config()
	return c, "https://" + addr, err
}

func (t *TLS) config() (*tls.Config, error) {
	c, err := tlsfile.Client(t.CAFile, t.CertFile, t.KeyFile)
	if err != nil {
		return nil, err
	}
	c.InsecureSkipVerify = t.InsecureSkipVerify // as the operator says
	return c, nil
}
