package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"lade/internal/errdefs"
)

// trust is whom a connection believes, and as whom it comes.
type trust struct {
	any   bool        // certificate will do
	cas   []string    // files with certificates to trust beside the system's
	pairs [][2]string // files with our certificates and their keys
}

func (t trust) empty() bool { return !t.any && len(t.cas) == 0 && len(t.pairs) == 0 }

// key identifies the trust and the state of its files.
func (t trust) key() string {
	var b strings.Builder
	fmt.Fprint(&b, t.any)
	add := func(name string) {
		st, err := os.Stat(name)
		if err != nil {
			fmt.Fprintf(&b, "|%s|%v", name, err)
			return
		}
		fmt.Fprintf(&b, "|%s|%d|%d", name, st.Size(), st.ModTime().UnixNano())
	}
	for _, name := range t.cas {
		add(name)
	}
	for _, p := range t.pairs {
		b.WriteString("|pair")
		add(p[0])
		add(p[1])
	}
	return b.String()
}

// config makes the configuration of TLS. Errors: Invalid for a file that cannot
// be read or holds something else.
func (t trust) config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: t.any}
	if len(t.cas) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			return nil, err
		}
		for _, name := range t.cas {
			pem, err := os.ReadFile(name)
			if err != nil {
				return nil, errdefs.Invalidf("certificate to trust: %w", err)
			}
			if !pool.AppendCertsFromPEM(pem) {
				return nil, errdefs.Invalidf("certificate to trust: %s holds no certificate", name)
			}
		}
		cfg.RootCAs = pool
	}
	for _, p := range t.pairs {
		c, err := tls.LoadX509KeyPair(p[0], p[1])
		if err != nil {
			return nil, errdefs.Invalidf("client certificate %s: %w", p[0], err)
		}
		cfg.Certificates = append(cfg.Certificates, c)
	}
	return cfg, nil
}

// dirTrust is what a directory of certs.d says: *.crt are certificates to trust,
// *.cert with the *.key of the same name are ours. Errors: Invalid, in Docker's
// words.
//
// Source: docs.docker.com/engine/security/certificates.
func dirTrust(dir string) (t trust, found bool, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return t, false, nil
	}
	if err != nil {
		return t, false, err
	}
	has := map[string]bool{}
	for _, e := range entries {
		has[e.Name()] = true
	}
	for _, e := range entries {
		name := e.Name()
		switch filepath.Ext(name) {
		case ".crt":
			t.cas = append(t.cas, filepath.Join(dir, name))
		case ".cert":
			key := strings.TrimSuffix(name, ".cert") + ".key"
			if !has[key] {
				return t, true, errdefs.Invalidf("missing key %s for client certificate %s. CA certificates must use the extension .crt", key, name)
			}
			t.pairs = append(t.pairs, [2]string{filepath.Join(dir, name), filepath.Join(dir, key)})
		case ".key":
			cert := strings.TrimSuffix(name, ".key") + ".cert"
			if !has[cert] {
				return t, true, errdefs.Invalidf("missing client certificate %s for key %s", cert, name)
			}
		}
	}
	return t, !t.empty(), nil
}

// transports reaches every host with the trust that is meant for it, so that a
// redirect takes neither certificates nor leniency elsewhere.
type transports struct {
	c *Client

	mu  sync.Mutex
	all map[string]*http.Transport // by the key of their trust; guarded by mu
}

// maxTransports is how many transports are kept: more than hosts, since a file
// that changes makes a new one.
const maxTransports = 32

// RoundTrip sends a request as the directories of certs.d and the insecure
// registries say for its host.
func (t *transports) RoundTrip(req *http.Request) (*http.Response, error) {
	var own trust
	for _, dir := range hostDirs(t.c.CertDirs, req.URL.Host) {
		found, ok, err := dirTrust(dir)
		if err != nil {
			return nil, err
		}
		if ok {
			own = found
			break
		}
	}
	return t.send(req, own)
}

func (t *transports) send(req *http.Request, own trust) (*http.Response, error) {
	own.any = own.any || req.URL.Scheme == "https" && t.c.mayLackTLS(req.Context(), req.URL.Host)
	tr, err := t.get(own)
	if err != nil {
		return nil, err
	}
	return tr.RoundTrip(req)
}

func (t *transports) get(own trust) (*http.Transport, error) {
	key := own.key()
	t.mu.Lock()
	defer t.mu.Unlock()
	if tr := t.all[key]; tr != nil {
		return tr, nil
	}
	cfg, err := own.config()
	if err != nil {
		return nil, err
	}
	if len(t.all) >= maxTransports {
		for k, old := range t.all {
			old.CloseIdleConnections()
			delete(t.all, k)
		}
	}
	dial := t.c.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: t.c.Stall}).DialContext
	}
	tr := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dial,
		TLSHandshakeTimeout: t.c.Stall,
		IdleConnTimeout:     30 * time.Second,
		MaxIdleConnsPerHost: max(t.c.Concurrency, t.c.Uploads),
		DisableCompression:  true, // digests are of the bytes on the wire
		ForceAttemptHTTP2:   true,
		TLSClientConfig:     cfg,
		WriteBufferSize:     64 << 10,
	}
	t.all[key] = tr
	return tr, nil
}

func (t *transports) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tr := range t.all {
		tr.CloseIdleConnections()
	}
}

// ownTrust is the transport of a host that is configured by itself; elsewhere it
// has no say.
type ownTrust struct {
	c     *Client
	host  string
	trust trust
}

func (o *ownTrust) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != o.host {
		return o.c.transports.RoundTrip(req)
	}
	return o.c.transports.send(req, o.trust)
}
