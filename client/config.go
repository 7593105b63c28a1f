package client

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	helper "github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
	"github.com/moby/moby/api/types/registry"
)

// DefaultRegistry is the key under which Docker Hub's credentials are kept.
const DefaultRegistry = "https://index.docker.io/v1/"

// tokenUser is the user name by which credential helpers mark an identity token.
const tokenUser = "<token>"

// Config is a client's config.json. What it does not know it keeps.
type Config struct {
	path   string
	fields map[string]json.RawMessage
}

// LoadConfig reads dir/config.json; a missing file is an empty configuration.
func LoadConfig(dir string) (*Config, error) {
	c := &Config{path: filepath.Join(dir, "config.json"), fields: map[string]json.RawMessage{}}
	b, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("loading config file: %w", err)
	}
	if len(strings.TrimSpace(string(b))) == 0 {
		return c, nil
	}
	if err := json.Unmarshal(b, &c.fields); err != nil {
		c.fields = map[string]json.RawMessage{}
		return c, fmt.Errorf("parsing config file (%s): %w", c.path, err)
	}
	return c, nil
}

// Path is where the configuration is kept.
func (c *Config) Path() string { return c.path }

// get decodes one field into v; a missing or unfit field leaves v alone.
func (c *Config) get(field string, v any) {
	if raw, ok := c.fields[field]; ok {
		_ = json.Unmarshal(raw, v)
	}
}

func (c *Config) text(field string) (s string) {
	c.get(field, &s)
	return s
}

// CurrentContext is the context that "context use" chose, or empty.
func (c *Config) CurrentContext() string { return c.text("currentContext") }

// DetachKeys is the configured key sequence, or empty.
func (c *Config) DetachKeys() string { return c.text("detachKeys") }

// Format is the configured output format of a command, such as "psFormat".
func (c *Config) Format(field string) string { return c.text(field) }

// PluginDirs are further directories of programs that Docker's client runs as
// commands of its own.
func (c *Config) PluginDirs() (dirs []string) {
	c.get("cliPluginsExtraDirs", &dirs)
	return dirs
}

// Headers are sent with every request.
func (c *Config) Headers() map[string]string {
	var h map[string]string
	c.get("HttpHeaders", &h)
	return h
}

// PruneFilters are filters that every prune applies.
func (c *Config) PruneFilters() (f []string) {
	c.get("pruneFilters", &f)
	return f
}

// Proxies are the proxy variables that containers of host get: those of the
// entry for the host, else of "default".
func (c *Config) Proxies(host string) map[string]string {
	var all map[string]struct{ HTTPProxy, HTTPSProxy, NoProxy, FTPProxy, AllProxy string }
	c.get("proxies", &all)
	p, ok := all[host]
	if !ok {
		p = all["default"]
	}
	env := map[string]string{}
	for k, v := range map[string]string{
		"HTTP_PROXY": p.HTTPProxy, "HTTPS_PROXY": p.HTTPSProxy, "NO_PROXY": p.NoProxy,
		"FTP_PROXY": p.FTPProxy, "ALL_PROXY": p.AllProxy,
	} {
		if v != "" {
			env[k], env[strings.ToLower(k)] = v, v
		}
	}
	return env
}

// SetCurrentContext stores the context that applies from now on; empty means
// none.
func (c *Config) SetCurrentContext(name string) error {
	if name == "" {
		delete(c.fields, "currentContext")
	} else if err := c.set("currentContext", name); err != nil {
		return err
	}
	return c.save()
}

func (c *Config) set(field string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	c.fields[field] = b
	return nil
}

func (c *Config) save() error {
	b, err := json.MarshalIndent(c.fields, "", "\t")
	if err != nil {
		return err
	}
	return replaceFile(c.path, b)
}

// storedAuth is an entry of "auths"; auth is base64(user:password).
type storedAuth struct {
	Auth          string `json:"auth,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"`
	RegistryToken string `json:"registrytoken,omitempty"`
}

func (c *Config) auths() map[string]storedAuth {
	m := map[string]storedAuth{}
	c.get("auths", &m)
	return m
}

// helperFor is the credential helper that keeps a registry's secrets, or empty.
func (c *Config) helperFor(server string) string {
	var helpers map[string]string
	c.get("credHelpers", &helpers)
	if h, ok := helpers[server]; ok {
		return h
	}
	return c.text("credsStore")
}

func program(name string) helper.ProgramFunc {
	return helper.NewShellProgramFunc("docker-credential-" + name)
}

// Auth finds a registry's credentials; none are an empty AuthConfig.
func (c *Config) Auth(server string) (registry.AuthConfig, error) {
	a := registry.AuthConfig{}
	if h := c.helperFor(server); h != "" {
		got, err := helper.Get(program(h), server)
		if credentials.IsErrCredentialsNotFound(err) {
			return a, nil
		}
		if err != nil {
			return a, fmt.Errorf("error getting credentials - err: %w", err)
		}
		a.ServerAddress = server
		if got.Username == tokenUser {
			a.IdentityToken = got.Secret
		} else {
			a.Username, a.Password = got.Username, got.Secret
		}
		return a, nil
	}
	all := c.auths()
	s, ok := all[server]
	if !ok {
		// Older clients stored https://registry/v1/ for registry.
		for k, v := range all {
			if Hostname(k) == Hostname(server) {
				s, ok = v, true
				break
			}
		}
	}
	if !ok {
		return a, nil
	}
	a.ServerAddress, a.IdentityToken, a.RegistryToken = server, s.IdentityToken, s.RegistryToken
	if s.Auth != "" {
		b, err := base64.StdEncoding.DecodeString(s.Auth)
		if err != nil {
			return a, fmt.Errorf("credentials of %s in %s: %w", server, c.path, err)
		}
		user, pass, found := strings.Cut(string(b), ":")
		if !found {
			return a, errors.New("invalid auth configuration file")
		}
		a.Username, a.Password = user, strings.Trim(pass, "\x00")
	}
	return a, nil
}

// Hostname strips scheme and path from the key of a credential.
func Hostname(server string) string {
	_, rest, ok := strings.Cut(server, "://")
	if !ok {
		rest = server
	}
	host, _, _ := strings.Cut(rest, "/")
	return host
}

// StoreAuth keeps credentials. Plain reports that they lie unencrypted in
// config.json.
func (c *Config) StoreAuth(a registry.AuthConfig) (plain bool, err error) {
	s := storedAuth{IdentityToken: a.IdentityToken}
	if h := c.helperFor(a.ServerAddress); h != "" {
		user, secret := a.Username, a.Password
		if a.IdentityToken != "" {
			user, secret = tokenUser, a.IdentityToken
		}
		err := helper.Store(program(h), &credentials.Credentials{ServerURL: a.ServerAddress, Username: user, Secret: secret})
		if err != nil {
			return false, err
		}
		s = storedAuth{}
	} else {
		s.Auth = base64.StdEncoding.EncodeToString([]byte(a.Username + ":" + a.Password))
		plain = true
	}
	all := c.auths()
	all[a.ServerAddress] = s
	if err := c.set("auths", all); err != nil {
		return plain, err
	}
	return plain, c.save()
}

// EraseAuth forgets a registry's credentials and reports whether there were any.
func (c *Config) EraseAuth(server string) (bool, error) {
	found := false
	if h := c.helperFor(server); h != "" {
		if _, err := helper.Get(program(h), server); err == nil {
			found = true
			if err := helper.Erase(program(h), server); err != nil {
				return true, err
			}
		}
	}
	all := c.auths()
	if _, ok := all[server]; !ok {
		return found, nil
	}
	delete(all, server)
	if err := c.set("auths", all); err != nil {
		return true, err
	}
	return true, c.save()
}

// Servers are the registries that credentials are kept for.
func (c *Config) Servers() []string {
	names := map[string]bool{}
	for s := range c.auths() {
		names[s] = true
	}
	var helpers map[string]string
	c.get("credHelpers", &helpers)
	for s := range helpers {
		names[s] = true
	}
	if store := c.text("credsStore"); store != "" {
		if all, err := helper.List(program(store)); err == nil {
			for s := range all {
				names[s] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}
