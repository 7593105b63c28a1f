package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"lade/internal/errdefs"
)

const (
	media = "application/vnd.docker.plugins.v1.2+json"
	// limit is the largest answer that is read.
	limit = 4 << 20
)

// Plugin is a plugin by its name.
type Plugin struct {
	name string
	kind string // what it must implement
	dirs Dirs

	mu     sync.Mutex
	client *http.Client // guarded by mu; nil: not found yet
	base   string       // guarded by mu; scheme and host of its URLs
}

// New returns the plugin of a name that implements kind ("authz"). It looks for
// nothing yet.
func New(name, kind string, dirs Dirs) *Plugin { return &Plugin{name: name, kind: kind, dirs: dirs} }

// Name is what the operator calls it.
func (p *Plugin) Name() string { return p.name }

// Call asks for a method, such as "AuthZPlugin.AuthZReq", with a value that is
// sent as JSON, and decodes the answer. It blocks until the plugin has answered
// or ctx ends. Errors: NotFound for a plugin that nothing tells of, Unavailable
// for one that cannot be reached, Internal for one that answers with an error,
// which is a *Refused then.
func (p *Plugin) Call(ctx context.Context, method string, request, response any) error {
	client, base, err := p.connect(ctx)
	if err != nil {
		return err
	}
	if err := call(ctx, client, base+"/"+method, request, response); err != nil {
		if errdefs.KindOf(err) == errdefs.Unavailable {
			p.forget(client)
		}
		return fmt.Errorf("plugin %s: %w", p.name, err)
	}
	return nil
}

// Close closes idle connections.
func (p *Plugin) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client != nil {
		p.client.CloseIdleConnections()
	}
}

// connect finds the plugin and asks what it is, once.
func (p *Plugin) connect(ctx context.Context) (*http.Client, string, error) {
	p.mu.Lock()
	client, base := p.client, p.base
	p.mu.Unlock()
	if client != nil {
		return client, base, nil
	}
	at, err := p.dirs.Find(p.name)
	if err != nil {
		return nil, "", err
	}
	client, base, err = at.client()
	if err != nil {
		return nil, "", fmt.Errorf("plugin %s: %w", p.name, err)
	}
	var is struct{ Implements []string }
	if err := call(ctx, client, base+"/Plugin.Activate", nil, &is); err != nil {
		client.CloseIdleConnections()
		return nil, "", fmt.Errorf("plugin %s: %w", p.name, err)
	}
	if !slices.Contains(is.Implements, p.kind) {
		client.CloseIdleConnections()
		return nil, "", errdefs.NotFoundf("plugin %s does not implement %q: it says %q", p.name, p.kind, is.Implements)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client == nil { // else somebody was faster
		p.client, p.base = client, base
	}
	return p.client, p.base, nil
}

// forget makes the next call look for the plugin again.
func (p *Plugin) forget(client *http.Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client == client {
		p.client = nil
	}
	client.CloseIdleConnections()
}

// Refused is an answer that is an error.
type Refused struct {
	Status string // of HTTP
	Words  string // the plugin's
}

// Error has both.
func (r *Refused) Error() string { return r.Status + ": " + r.Words }

func call(ctx context.Context, client *http.Client, url string, request, response any) error {
	body := []byte("{}")
	if request != nil {
		var err error
		if body, err = json.Marshal(request); err != nil {
			return err
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", media)
	r.Header.Set("Accept", media)
	res, err := client.Do(r)
	if err != nil {
		return errdefs.Unavailablef("%w", err)
	}
	defer res.Body.Close() // was read
	b, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	switch {
	case err != nil:
		return errdefs.Unavailablef("%w", err)
	case len(b) > limit:
		return errdefs.Internalf("its answer has more than %d bytes", limit)
	case res.StatusCode != http.StatusOK:
		var said struct{ Err string }
		if json.Unmarshal(b, &said) != nil || said.Err == "" {
			said.Err = strings.TrimSpace(string(b[:min(len(b), 1000)]))
		}
		return errdefs.Internalf("%w", &Refused{Status: res.Status, Words: said.Err})
	}
	if err := json.Unmarshal(b, response); err != nil {
		return errdefs.Internalf("its answer cannot be read: %w", err)
	}
	return nil
}
