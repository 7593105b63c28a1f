package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/go-connections/tlsconfig"
)

// The sockets tried when nobody chose a host, in this order.
const (
	DefaultSocket = "/var/run/lade.sock"
	DockerSocket  = "/var/run/docker.sock"
)

// DefaultContext is the name of the context that stands for "no context".
const DefaultContext = "default"

// Options are what a command line says about the engine to talk to.
type Options struct {
	Hosts     []string // --host; more than one is an error
	Context   string   // --context
	ConfigDir string   // --config; empty: DOCKER_CONFIG or ~/.docker

	TLS, TLSVerify            bool   // --tls, --tlsverify
	TLSVerifySet              bool   // --tlsverify was given, so the environment does not count
	CAFile, CertFile, KeyFile string // --tlscacert, --tlscert, --tlskey; empty: files in DOCKER_CERT_PATH or ConfigDir

	// Getenv reads the environment; nil means os.Getenv.
	Getenv func(string) string
}

func (o *Options) getenv(names ...string) string {
	get := o.Getenv
	if get == nil {
		get = os.Getenv
	}
	for _, n := range names {
		if v := get(n); v != "" {
			return v
		}
	}
	return ""
}

// Dir is the directory of the client's files.
func (o *Options) Dir() string {
	if o.ConfigDir != "" {
		return o.ConfigDir
	}
	if d := o.getenv("DOCKER_CONFIG"); d != "" {
		return d
	}
	home := o.getenv("HOME")
	if home == "" {
		home, _ = os.UserHomeDir()
	}
	return filepath.Join(home, ".docker")
}

// Endpoint is a place where an engine answers.
type Endpoint struct {
	Context string      // name of the context it comes from; DefaultContext without one
	Host    string      // unix://, tcp:// or ssh:// URL
	TLS     *tls.Config // nil for plain connections
	Headers map[string]string

	// Chosen reports whether a flag, the environment or a context named the
	// host. Only an endpoint that nobody chose falls back to DockerSocket and
	// may be started.
	Chosen bool
}

// ContextName says which context applies and where that was said. An empty
// source means that nothing names one.
func (o *Options) ContextName(cfg *Config) (name, source string, err error) {
	switch {
	case o.Context != "" && len(o.Hosts) > 0:
		return "", "", errors.New("conflicting options: cannot specify both --host and --context")
	case o.Context != "":
		return o.Context, "--context", nil
	case len(o.Hosts) > 0:
		return DefaultContext, "--host", nil
	}
	for _, e := range []string{"LADE", "DOCKER"} {
		if o.getenv(e+"_HOST") != "" {
			return DefaultContext, e + "_HOST", nil
		}
		if c := o.getenv(e + "_CONTEXT"); c != "" {
			return c, e + "_CONTEXT", nil
		}
	}
	if c := cfg.CurrentContext(); c != "" {
		return c, "config", nil
	}
	return DefaultContext, "", nil
}

// Resolve decides which endpoint o means.
func (o *Options) Resolve(cfg *Config) (*Endpoint, error) {
	name, source, err := o.ContextName(cfg)
	if err != nil {
		return nil, err
	}
	if name != DefaultContext {
		return Contexts(o.Dir()).Endpoint(name)
	}
	if len(o.Hosts) > 1 {
		return nil, errors.New("Specify only one -H")
	}
	e := &Endpoint{Context: DefaultContext, Headers: cfg.Headers()}
	host := ""
	switch {
	case len(o.Hosts) == 1:
		host = o.Hosts[0]
	case source == "LADE_HOST" || source == "DOCKER_HOST":
		host = o.getenv(source)
	}
	e.Chosen = host != ""
	if e.TLS, err = o.tlsConfig(); err != nil {
		return nil, err
	}
	if e.Host, err = ParseHost(host, e.TLS != nil); err != nil {
		return nil, err
	}
	return e, nil
}

// ParseHost completes a host as Docker does: no scheme means tcp, no port 2375
// (2376 with TLS), nothing at all the default socket (the TLS port of the
// loopback interface with TLS).
func ParseHost(host string, withTLS bool) (string, error) {
	host = strings.TrimSpace(host)
	port := "2375"
	if withTLS {
		port = "2376"
	}
	if host == "" {
		if withTLS {
			return "tcp://localhost:2376", nil
		}
		return "unix://" + DefaultSocket, nil
	}
	scheme, addr, ok := strings.Cut(host, "://")
	if !ok {
		scheme, addr = "tcp", host
	}
	switch scheme {
	case "unix":
		if addr == "" {
			addr = DockerSocket
		}
		if strings.Contains(addr, "://") {
			return "", fmt.Errorf("unable to parse docker host `%s`", host)
		}
		return "unix://" + addr, nil
	case "ssh":
		return host, nil
	case "tcp", "http", "https":
		u, err := url.Parse("tcp://" + addr)
		if err != nil {
			return "", fmt.Errorf("invalid bind address format: %s", host)
		}
		h, p := u.Hostname(), u.Port()
		if h == "" {
			h = "localhost"
		}
		if p == "" {
			p = port
		}
		return "tcp://" + net.JoinHostPort(h, p) + u.Path, nil
	}
	return "", fmt.Errorf("invalid bind address format: %s", host)
}

// tlsConfig is nil when the connection is to be plain.
func (o *Options) tlsConfig() (*tls.Config, error) {
	verify := o.TLSVerify || !o.TLSVerifySet && o.getenv("DOCKER_TLS_VERIFY") != ""
	if !verify && !o.TLS && o.getenv("DOCKER_TLS") == "" {
		return nil, nil
	}
	dir := o.getenv("DOCKER_CERT_PATH")
	if dir == "" {
		dir = o.Dir()
	}
	// A file that the user named must exist; one that we guessed need not.
	pick := func(named, base string) string {
		if named != "" {
			return named
		}
		p := filepath.Join(dir, base)
		if _, err := os.Stat(p); err != nil {
			return ""
		}
		return p
	}
	c := tlsconfig.ClientDefault()
	c.InsecureSkipVerify = !verify
	if verify {
		ca := pick(o.CAFile, "ca.pem")
		if ca != "" {
			pem, err := os.ReadFile(ca)
			if err != nil {
				return nil, fmt.Errorf("could not read CA certificate %q: %w", ca, err)
			}
			if err := trust(c, pem); err != nil {
				return nil, fmt.Errorf("CA certificate %s: %w", ca, err)
			}
		}
	}
	cert, key := pick(o.CertFile, "cert.pem"), pick(o.KeyFile, "key.pem")
	if cert != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("could not load X509 key pair: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

func trust(c *tls.Config, pem []byte) error {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return errors.New("no certificate found")
	}
	c.RootCAs = pool
	return nil
}
