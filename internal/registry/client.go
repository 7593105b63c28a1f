package registry

import (
	"context"
	"encoding/base64"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	apiregistry "github.com/moby/moby/api/types/registry"
	"golang.org/x/sync/semaphore"
	"oras.land/oras-go/v2/registry/remote/auth"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/reference"
)

// dockerHost is where the repositories of docker.io really are.
const dockerHost = "registry-1.docker.io"

// Config says how registries are reached. The zero value of a field is its
// default.
type Config struct {
	Images      *image.Images
	Logger      *slog.Logger
	Mirrors     []string        // URLs that are asked before docker.io
	Insecure    []string        // hosts (with port, if any) or prefixes that may lack TLS
	Registries  map[string]Host // by host, with port if any; "*" is any other
	CertDirs    []string        // directories like /etc/docker/certs.d; the first that has a host counts
	Concurrency int             // downloads of one pull at a time; 3
	Uploads     int             // of one push at a time; 5
	Total       int             // downloads and uploads at a time, of all pulls and pushes; 4 × the larger
	Retries     int             // attempts without progress; 5
	Stall       time.Duration   // a registry that sends nothing for so long has stalled; 30 s
	Backoff     time.Duration   // before the second attempt, doubled for each further; 250 ms
	Settle      time.Duration   // a download that has not ended by then may be split in ranges; 1 s
	SplitSize   int64           // bytes that must still be to come for that; 32 MiB
	// Chunk is how many bytes of a blob are sent with one request: a cut costs no
	// more than that, and proxies before registries limit requests; 32 MiB.
	Chunk     int64
	UserAgent string
	Dial      func(ctx context.Context, network, address string) (net.Conn, error) // for tests
	// Lookup says which addresses a name has; for tests.
	Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Client talks to registries.
type Client struct {
	Config
	prefixes   []netip.Prefix
	hosts      map[string]bool
	transports *transports
	http       *http.Client        // over transports
	slots      *semaphore.Weighted // of transfers

	flights *flights
}

// flights are the downloads that are under way.
type flights struct {
	mu  sync.Mutex
	all map[digest.Digest]chan struct{} // closed at their end; guarded by mu
}

func (c *Config) complete() {
	number := func(n *int, standard int) {
		if *n <= 0 {
			*n = standard
		}
	}
	number(&c.Concurrency, 3)
	number(&c.Uploads, 5)
	number(&c.Total, 4*max(c.Concurrency, c.Uploads))
	number(&c.Retries, 5)
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{{&c.Stall, 30 * time.Second}, {&c.Backoff, 250 * time.Millisecond}, {&c.Settle, time.Second}} {
		if *d.value <= 0 {
			*d.value = d.standard
		}
	}
	if c.SplitSize <= 0 {
		c.SplitSize = 32 << 20
	}
	if c.Chunk <= 0 {
		c.Chunk = 32 << 20
	}
	if c.Lookup == nil {
		c.Lookup = net.DefaultResolver.LookupNetIP
	}
	if c.UserAgent == "" {
		c.UserAgent = "lade"
	}
}

// New checks the configuration. Errors: Invalid, in Docker's words.
func New(c Config) (*Client, error) {
	c.complete()
	cl := &Client{Config: c, hosts: map[string]bool{}, flights: &flights{all: map[digest.Digest]chan struct{}{}}, slots: semaphore.NewWeighted(int64(c.Total))}
	for _, s := range append([]string{"127.0.0.0/8", "::1/128"}, c.Insecure...) {
		if p, err := netip.ParsePrefix(s); err == nil {
			cl.prefixes = append(cl.prefixes, p.Masked())
			continue
		}
		if strings.Contains(s, "/") {
			return nil, errdefs.Invalidf("insecure registry %s should not contain '://' or a path", s)
		}
		cl.hosts[s] = true
	}
	cl.transports = &transports{c: cl, all: map[string]*http.Transport{}}
	cl.http = &http.Client{Transport: cl.transports}
	for _, m := range c.Mirrors {
		if _, err := parseMirror(m); err != nil {
			return nil, err
		}
	}
	for name, h := range c.Registries {
		if err := h.Check(name); err != nil {
			return nil, err
		}
	}
	return cl, nil
}

// Close ends idle connections.
func (c *Client) Close() {
	c.transports.close()
}

// ServiceConfig is what `info` shows of the registries.
func (c *Client) ServiceConfig() *apiregistry.ServiceConfig {
	mirrors := append([]string{}, c.Mirrors...)
	out := &apiregistry.ServiceConfig{
		InsecureRegistryCIDRs: c.prefixes,
		IndexConfigs: map[string]*apiregistry.IndexInfo{
			reference.DefaultDomain: {Name: reference.DefaultDomain, Mirrors: mirrors, Secure: true, Official: true},
		},
		Mirrors: mirrors,
	}
	for h := range c.hosts {
		out.IndexConfigs[h] = &apiregistry.IndexInfo{Name: h, Mirrors: []string{}}
	}
	for name, h := range c.Registries {
		info := out.IndexConfigs[name]
		if info == nil {
			info = &apiregistry.IndexInfo{Name: name, Secure: !h.Insecure && !c.hosts[name]}
			out.IndexConfigs[name] = info
		}
		info.Mirrors = append(append([]string{}, h.Mirrors...), info.Mirrors...)
	}
	return out
}

// mayLackTLS reports whether a host is loopback or configured as insecure: by
// name, by address, or by all that the name stands for. One address of several is
// not enough: another one may be asked then (CVE-2026-92543).
func (c *Client) mayLackTLS(ctx context.Context, host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	if c.hosts[host] || c.hosts[name] || name == "localhost" {
		return true
	}
	if a, err := netip.ParseAddr(name); err == nil {
		return c.inPrefixes(a)
	}
	if len(c.prefixes) <= 2 { // loopback alone: no need to ask
		return false
	}
	addrs, err := c.Lookup(ctx, "ip", name)
	return err == nil && len(addrs) > 0 && !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return !c.inPrefixes(a) })
}

func (c *Client) inPrefixes(a netip.Addr) bool {
	a = a.Unmap()
	for _, p := range c.prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// session is the conversation of one operation with one endpoint.
type session struct {
	c      *Client
	e      endpoint
	repo   string // path of the repository
	auth   *auth.Client
	scopes []string    // what tokens are asked for
	whole  atomic.Bool // the endpoint has shown that it has no ranges
}

func (c *Client) session(e endpoint, repo string, a *apiregistry.AuthConfig, actions ...string) (*session, error) {
	cred, err := credential(a)
	if err != nil {
		return nil, err
	}
	s := &session{c: c, e: e, repo: repo, auth: &auth.Client{
		Client:   e.client,
		Cache:    auth.NewCache(),
		ClientID: "docker",
		Header:   http.Header{"User-Agent": {c.UserAgent}},
		Credential: func(_ context.Context, hostport string) (auth.Credential, error) {
			if hostport != e.base.Host || e.mirror {
				return auth.EmptyCredential, nil
			}
			return cred, nil
		},
	}}
	if e.insecure {
		// A registry on loopback has its token service there too.
		s.auth.BlockedRealmPrefixes = []netip.Prefix{}
	}
	if repo != "" {
		s.scopes = []string{auth.ScopeRepository(repo, actions...)}
	}
	return s, nil
}

// credential reads what the client sent in X-Registry-Auth.
func credential(a *apiregistry.AuthConfig) (auth.Credential, error) {
	if a == nil {
		return auth.EmptyCredential, nil
	}
	cred := auth.Credential{Username: a.Username, Password: a.Password, RefreshToken: a.IdentityToken, AccessToken: a.RegistryToken}
	if cred == auth.EmptyCredential && a.Auth != "" {
		b, err := base64.StdEncoding.DecodeString(a.Auth)
		user, password, ok := strings.Cut(string(b), ":")
		if err != nil || !ok {
			return cred, errdefs.Invalidf("invalid auth configuration")
		}
		cred.Username, cred.Password = user, strings.TrimRight(password, "\x00")
	}
	return cred, nil
}
