package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"lade/internal/errdefs"
	"lade/internal/reference"
)

// hostsFile is the name of containerd's file on how to reach a registry.
const hostsFile = "hosts.toml"

// maxRedirects is how many are followed, as by net/http.
const maxRedirects = 10

// Host is what daemon.json says of one registry.
type Host struct {
	Mirrors  []string `json:"mirrors,omitempty"`  // URLs that are asked first, in order
	Insecure bool     `json:"insecure,omitempty"` // may lack TLS, or a trusted certificate
	CA       string   `json:"ca,omitempty"`       // file with certificates to trust beside the system's
	Cert     string   `json:"cert,omitempty"`     // file with our certificate, with Key
	Key      string   `json:"key,omitempty"`
}

// Check finds what is wrong with the settings of a registry. Errors: Invalid.
func (h Host) Check(name string) error {
	if name == "" || strings.Contains(name, "/") {
		return errdefs.Invalidf("invalid registry %q: should be a host, or host:port, or *", name)
	}
	if (h.Cert == "") != (h.Key == "") {
		return errdefs.Invalidf("registry %s: cert and key need each other", name)
	}
	for _, m := range h.Mirrors {
		if _, err := parseMirror(m); err != nil {
			return err
		}
	}
	return nil
}

// parseMirror reads the URL of a mirror. Errors: Invalid, in Docker's words.
func parseMirror(m string) (*url.URL, error) {
	u, err := url.Parse(m)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, errdefs.Invalidf("invalid mirror: %q is not a valid URI", m)
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return nil, errdefs.Invalidf("invalid mirror: query or fragment at end of the URI %q", m)
	}
	return u, nil
}

// capability is what a host may be asked to do.
type capability uint8

const (
	canPull    capability = 1 << iota // content by digest
	canResolve                        // tags
	canPush
)

// endpoint is one way to reach a registry.
type endpoint struct {
	base      url.URL // scheme, host, and what precedes the repository in the path: /v2
	client    *http.Client
	insecure  bool
	mirror    bool
	namespace string      // of a mirror of several registries: whom it stands for here
	header    http.Header // for every request
	can       capability
}

// endpoints lists the ways to a registry that can do something, in the order of
// trying. They are read anew each time: a file that changes has effect at once.
//
// First come the mirrors: those that a hosts.toml names, else those of
// daemon.json. The registry itself is last, over HTTPS, and over HTTP if it may
// lack TLS. Errors: Invalid for a bad file.
func (c *Client) endpoints(ctx context.Context, domain string, want capability) ([]endpoint, error) {
	all, err := c.fileEndpoints(ctx, domain)
	if err == nil && all == nil {
		all, err = c.configured(ctx, domain)
	}
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(e endpoint) bool { return e.can&want == 0 })
	if len(all) == 0 {
		return nil, errdefs.Invalidf("registry %s: no host is configured that may do this", domain)
	}
	return all, nil
}

// configured are the endpoints of a registry without a hosts.toml.
func (c *Client) configured(ctx context.Context, domain string) ([]endpoint, error) {
	h, named := c.Registries[domain]
	if !named {
		h = c.Registries["*"]
	}
	var all []endpoint
	for _, m := range h.Mirrors {
		u, err := parseMirror(m)
		if err != nil {
			return nil, err
		}
		e := c.endpoint(ctx, u, trust{})
		e.mirror, e.namespace, e.can = true, domain, canPull|canResolve
		all = append(all, e)
	}
	if domain == reference.DefaultDomain {
		for _, m := range c.Mirrors {
			u, err := parseMirror(m)
			if err != nil {
				return nil, err
			}
			e := c.endpoint(ctx, u, trust{})
			e.mirror, e.can = true, canPull|canResolve
			all = append(all, e)
		}
	}
	own := trust{any: h.Insecure && named}
	if h.CA != "" && named {
		own.cas = []string{h.CA}
	}
	if h.Cert != "" && named {
		own.pairs = [][2]string{{h.Cert, h.Key}}
	}
	return append(all, c.upstream(ctx, domain, own)...), nil
}

// upstream is the registry itself.
func (c *Client) upstream(ctx context.Context, domain string, t trust) []endpoint {
	host := domain
	if domain == reference.DefaultDomain {
		host = dockerHost
	}
	https := c.endpoint(ctx, &url.URL{Scheme: "https", Host: host}, t)
	all := []endpoint{https}
	if https.insecure {
		http := https
		http.base.Scheme = "http"
		all = append(all, http)
	}
	return all
}

// endpoint is the one at a URL that can do everything.
func (c *Client) endpoint(ctx context.Context, u *url.URL, t trust) endpoint {
	root := path.Clean("/" + u.Path)
	if !strings.HasSuffix(root, "/v2") {
		root = path.Join(root, "v2")
	}
	e := endpoint{
		base: url.URL{Scheme: u.Scheme, Host: u.Host, Path: root}, can: canPull | canResolve | canPush,
		insecure: t.any || c.mayLackTLS(ctx, u.Host), client: c.http,
	}
	if !t.empty() {
		e.client = &http.Client{Transport: &ownTrust{c: c, host: u.Host, trust: t}}
	}
	return e
}

// hostDirs are where the files on a registry may be: below each of roots, the
// name with the port as containerd writes it, and as Docker does.
func hostDirs(roots []string, domain string) []string {
	var all []string
	for _, root := range roots {
		if host, port, ok := strings.Cut(domain, ":"); ok {
			all = append(all, filepath.Join(root, host+"_"+port+"_"))
		}
		all = append(all, filepath.Join(root, domain))
	}
	return all
}

// fileEndpoints are the endpoints of a registry that has a hosts.toml; nil if it
// has none.
func (c *Client) fileEndpoints(ctx context.Context, domain string) ([]endpoint, error) {
	dirs := hostDirs(c.CertDirs, domain)
	for _, root := range c.CertDirs {
		dirs = append(dirs, filepath.Join(root, "_default"))
	}
	for _, dir := range dirs {
		name := filepath.Join(dir, hostsFile)
		raw, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all, err := c.parseHosts(ctx, domain, dir, raw)
		if err != nil {
			return nil, errdefs.Invalidf("%s: %w", name, err)
		}
		return all, nil
	}
	return nil, nil
}

// hostEntry is a table of a hosts.toml. Fields that have several forms are any.
type hostEntry struct {
	Capabilities []string       `toml:"capabilities"`
	CA           any            `toml:"ca"`
	Client       any            `toml:"client"`
	SkipVerify   bool           `toml:"skip_verify"`
	OverridePath bool           `toml:"override_path"`
	Header       map[string]any `toml:"header"`
}

// parseHosts reads a hosts.toml; files that it names are relative to dir.
// Unknown fields are left to newer versions of containerd, which owns the format.
//
// Source: containerd docs/hosts.md.
func (c *Client) parseHosts(ctx context.Context, domain, dir string, raw []byte) ([]endpoint, error) {
	var file struct {
		Server string `toml:"server"`
		hostEntry
		Host map[string]hostEntry `toml:"host"`
	}
	meta, err := toml.Decode(string(raw), &file)
	if err != nil {
		return nil, err
	}
	var all []endpoint
	seen := map[string]bool{}
	for _, key := range meta.Keys() { // in the order of the file, which is that of trying
		if len(key) < 2 || key[0] != "host" || seen[key[1]] {
			continue
		}
		seen[key[1]] = true
		e, err := c.hostEndpoint(ctx, key[1], dir, file.Host[key[1]])
		if err != nil {
			return nil, fmt.Errorf("host %q: %w", key[1], err)
		}
		e.mirror, e.namespace = true, domain
		all = append(all, e)
	}
	if file.Server != "" {
		e, err := c.hostEndpoint(ctx, file.Server, dir, file.hostEntry)
		if err != nil {
			return nil, fmt.Errorf("server %q: %w", file.Server, err)
		}
		return append(all, e), nil
	}
	t, err := file.trust(dir)
	if err != nil {
		return nil, err
	}
	return append(all, c.upstream(ctx, domain, t)...), nil
}

// hostEndpoint is what a table of a hosts.toml says.
func (c *Client) hostEndpoint(ctx context.Context, where, dir string, h hostEntry) (endpoint, error) {
	if !strings.Contains(where, "://") {
		where = "https://" + where
	}
	u, err := parseMirror(where)
	if err != nil {
		return endpoint{}, err
	}
	t, err := h.trust(dir)
	if err != nil {
		return endpoint{}, err
	}
	e := c.endpoint(ctx, u, t)
	if h.OverridePath {
		e.base.Path = path.Clean("/" + u.Path)
	}
	if e.header, err = h.headers(); err != nil {
		return e, err
	}
	if len(e.header) > 0 {
		e.client = homely(e.client, e.header)
	}
	if len(h.Capabilities) > 0 {
		e.can = 0
	}
	for _, name := range h.Capabilities {
		switch strings.ToLower(name) {
		case "pull":
			e.can |= canPull
		case "resolve":
			e.can |= canResolve
		case "push":
			e.can |= canPush
		default:
			return e, fmt.Errorf("unknown capability %q", name)
		}
	}
	return e, nil
}

// homely is a client that takes headers nowhere else: net/http itself leaves out
// only those that it knows to be secret.
func homely(client *http.Client, header http.Header) *http.Client {
	h := *client
	h.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		for _, r := range append(via[1:len(via):len(via)], req) {
			if r.URL.Scheme == via[0].URL.Scheme && r.URL.Host == via[0].URL.Host {
				continue
			}
			for name := range header {
				req.Header.Del(name)
			}
		}
		if len(via) >= maxRedirects {
			return errdefs.Unavailablef("stopped after %d redirects", maxRedirects)
		}
		return nil
	}
	return &h
}

// trust is what the table says of certificates.
func (h hostEntry) trust(dir string) (trust, error) {
	t := trust{any: h.SkipVerify}
	cas, err := texts(h.CA)
	if err != nil {
		return t, fmt.Errorf("ca: %w", err)
	}
	at := func(name string) string {
		if filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(dir, name)
	}
	for _, name := range cas {
		t.cas = append(t.cas, at(name))
	}
	// A text is a file with certificate and key; a list holds texts, or pairs.
	if one, ok := h.Client.(string); ok {
		t.pairs = [][2]string{{at(one), at(one)}}
		return t, nil
	}
	list, _ := h.Client.([]any)
	if h.Client != nil && list == nil {
		return t, errors.New("client: should be a file, or a list of files and pairs of files")
	}
	for _, item := range list {
		pair, err := texts(item)
		if err != nil || len(pair) == 0 || len(pair) > 2 {
			return t, errors.New("client: should be a file, or a list of files and pairs of files")
		}
		t.pairs = append(t.pairs, [2]string{at(pair[0]), at(pair[len(pair)-1])})
	}
	return t, nil
}

// headers are those that the table adds to each request.
func (h hostEntry) headers() (http.Header, error) {
	out := http.Header{}
	for name, v := range h.Header {
		values, err := texts(v)
		if err != nil {
			return nil, fmt.Errorf("header %s: %w", name, err)
		}
		out[http.CanonicalHeaderKey(name)] = values
	}
	return out, nil
}

// texts reads a text or a list of texts.
func texts(v any) ([]string, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{v}, nil
	case []any:
		var out []string
		for _, x := range v {
			s, ok := x.(string)
			if !ok {
				return nil, fmt.Errorf("%v is no text", x)
			}
			out = append(out, s)
		}
		return out, nil
	}
	return nil, fmt.Errorf("%v is neither a text nor a list of texts", v)
}
