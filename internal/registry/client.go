package registry

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	apiregistry "github.com/moby/moby/api/types/registry"
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
	Mirrors     []string      // URLs that are asked before docker.io
	Insecure    []string      // hosts (with port, if any) or prefixes that may lack TLS
	Concurrency int           // downloads of one pull at a time; 3
	Retries     int           // attempts without progress; 5
	Stall       time.Duration // a registry that sends nothing for so long has stalled; 30 s
	Backoff     time.Duration // before the second attempt, doubled for each further; 250 ms
	UserAgent   string
}

// Client talks to registries.
type Client struct {
	Config
	prefixes       []netip.Prefix
	hosts          map[string]bool
	secure, trusts *http.Client // trusts takes any certificate
	mirrors        []endpoint

	mu      sync.Mutex
	flights map[digest.Digest]chan struct{} // downloads under way; guarded by mu
}

// endpoint is one way to reach a registry.
type endpoint struct {
	base     url.URL // scheme and host
	insecure bool
	mirror   bool
}

// New checks the configuration. Errors: Invalid, in Docker's words.
func New(c Config) (*Client, error) {
	if c.Concurrency <= 0 {
		c.Concurrency = 3
	}
	if c.Retries <= 0 {
		c.Retries = 5
	}
	if c.Stall <= 0 {
		c.Stall = 30 * time.Second
	}
	if c.Backoff <= 0 {
		c.Backoff = 250 * time.Millisecond
	}
	if c.UserAgent == "" {
		c.UserAgent = "lade"
	}
	cl := &Client{Config: c, hosts: map[string]bool{}, flights: map[digest.Digest]chan struct{}{}}
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
	cl.secure = &http.Client{Transport: cl.transport(false)}
	cl.trusts = &http.Client{Transport: cl.transport(true)}
	for _, m := range c.Mirrors {
		u, err := url.Parse(m)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			return nil, errdefs.Invalidf("invalid mirror: %q is not a valid URI", m)
		}
		if strings.Trim(u.Path, "/") != "" {
			return nil, errdefs.Invalidf("invalid mirror: path, query, or fragment at end of the URI %q", m)
		}
		cl.mirrors = append(cl.mirrors, endpoint{base: url.URL{Scheme: u.Scheme, Host: u.Host}, insecure: cl.mayLackTLS(context.Background(), u.Host), mirror: true})
	}
	return cl, nil
}

func (c *Client) transport(anyCertificate bool) http.RoundTripper {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: c.Stall}).DialContext,
		TLSHandshakeTimeout:   c.Stall,
		ResponseHeaderTimeout: c.Stall,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConnsPerHost:   c.Concurrency,
		DisableCompression:    true, // digests are of the bytes on the wire
		ForceAttemptHTTP2:     true,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: anyCertificate},
	}
}

// Close ends idle connections.
func (c *Client) Close() {
	c.secure.CloseIdleConnections()
	c.trusts.CloseIdleConnections()
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
	return out
}

// mayLackTLS reports whether a host is loopback or configured as insecure: by
// name, by address, or by what the name stands for.
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
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if c.inPrefixes(a) {
			return true
		}
	}
	return false
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

// endpoints lists the ways to a repository's registry, in the order of trying.
func (c *Client) endpoints(ctx context.Context, domain string) []endpoint {
	if domain == reference.DefaultDomain {
		return append(append([]endpoint{}, c.mirrors...), endpoint{base: url.URL{Scheme: "https", Host: dockerHost}})
	}
	insecure := c.mayLackTLS(ctx, domain)
	all := []endpoint{{base: url.URL{Scheme: "https", Host: domain}, insecure: insecure}}
	if insecure {
		all = append(all, endpoint{base: url.URL{Scheme: "http", Host: domain}, insecure: true})
	}
	return all
}

// session is the conversation of one operation with one endpoint.
type session struct {
	c    *Client
	e    endpoint
	repo string // path of the repository
	auth *auth.Client
}

func (c *Client) session(e endpoint, repo string, a *apiregistry.AuthConfig) (*session, error) {
	cred, err := credential(a)
	if err != nil {
		return nil, err
	}
	client := c.secure
	ac := &auth.Client{
		Cache:    auth.NewCache(),
		ClientID: "docker",
		Header:   http.Header{"User-Agent": {c.UserAgent}},
		Credential: func(_ context.Context, hostport string) (auth.Credential, error) {
			if hostport != e.base.Host || e.mirror {
				return auth.EmptyCredential, nil
			}
			return cred, nil
		},
	}
	if e.insecure {
		client = c.trusts
		// A registry on loopback has its token service there too.
		ac.BlockedRealmPrefixes = []netip.Prefix{}
	}
	ac.Client = client
	return &session{c: c, e: e, repo: repo, auth: ac}, nil
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

// Login checks credentials with a registry. Errors: Unauthorized, Unavailable.
func (c *Client) Login(ctx context.Context, a apiregistry.AuthConfig) error {
	domain := a.ServerAddress
	if i := strings.Index(domain, "://"); i >= 0 {
		domain = domain[i+3:]
	}
	domain, _, _ = strings.Cut(domain, "/")
	if domain == "" || domain == "index.docker.io" {
		domain = reference.DefaultDomain
	}
	var last error
	for _, e := range c.endpoints(ctx, domain) {
		if e.mirror {
			continue
		}
		s, err := c.session(e, "", &a)
		if err != nil {
			return err
		}
		resp, err := s.do(ctx, http.MethodGet, "/v2/", nil)
		if err == nil {
			return resp.Body.Close()
		}
		last = err
		if k := errdefs.KindOf(err); k == errdefs.Unauthorized || k == errdefs.Canceled {
			break
		}
	}
	return last
}
