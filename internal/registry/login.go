package registry

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	apiregistry "github.com/moby/moby/api/types/registry"

	"lade/internal/errdefs"
	"lade/internal/reference"
)

// Login checks credentials with a registry. A registry whose token service
// gives out identity tokens answers with one, which a client keeps instead of
// the password; otherwise the token is "". Errors: Unauthorized, Invalid,
// Unavailable, what the registry refuses with, the context's.
//
// Source: distribution docs/spec/auth/token.md, offline_token and refresh_token.
func (c *Client) Login(ctx context.Context, a apiregistry.AuthConfig) (token string, err error) {
	all, err := c.endpoints(ctx, domainOf(a.ServerAddress), canPull|canPush)
	if err != nil {
		return "", err
	}
	var last error
	for _, e := range all {
		if e.mirror {
			continue
		}
		s, err := c.session(e, "", &a)
		if err != nil {
			return "", err
		}
		if token, err = s.login(ctx, a); err == nil {
			return token, nil
		}
		last = err
		if k := errdefs.KindOf(err); k == errdefs.Unauthorized || k == errdefs.Canceled {
			break
		}
	}
	return "", last
}

// domainOf is the registry that an address of a login means: a host, or the URL
// under which older clients keep Docker Hub's credentials.
func domainOf(address string) string {
	if _, rest, ok := strings.Cut(address, "://"); ok {
		address = rest
	}
	address, _, _ = strings.Cut(address, "/")
	if address == "" || address == "index.docker.io" || address == dockerHost {
		return reference.DefaultDomain
	}
	return address
}

func (s *session) login(ctx context.Context, a apiregistry.AuthConfig) (string, error) {
	resp, err := s.do(ctx, http.MethodGet, "/", nil)
	if err != nil {
		return "", err
	}
	if err := resp.Body.Close(); err != nil {
		return "", err
	}
	if a.Password == "" {
		return a.IdentityToken, nil
	}
	return s.identityToken(ctx, a)
}

// identityToken asks the token service for one; "" if there is none to have. The
// password was right: the session has used it.
func (s *session) identityToken(ctx context.Context, a apiregistry.AuthConfig) (string, error) {
	guarded, w := watch(ctx, s.c.Stall)
	defer w.end()
	req, err := http.NewRequestWithContext(guarded, http.MethodGet, s.url("/", nil).String(), nil)
	if err != nil {
		return "", err
	}
	s.dress(req, nil)
	resp, err := s.e.client.Do(req)
	if err != nil {
		return "", classify(ctx, req, err)
	}
	if err := resp.Body.Close(); err != nil {
		return "", err
	}
	realm, service := bearer(resp.Header.Get("Www-Authenticate"))
	u, bad := url.Parse(realm)
	if resp.StatusCode != http.StatusUnauthorized || realm == "" || bad != nil || u.Scheme != "https" && s.e.base.Scheme == "https" {
		return "", nil // no token service, or one that gets no password; a bad realm has failed the login itself
	}
	q := u.Query()
	for k, v := range map[string]string{"service": service, "account": a.Username, "client_id": "docker", "offline_token": "true"} {
		if v != "" {
			q.Set(k, v)
		}
	}
	u.RawQuery = q.Encode()
	if req, err = http.NewRequestWithContext(guarded, http.MethodGet, u.String(), nil); err != nil {
		return "", err
	}
	req.Header.Set("User-Agent", s.c.UserAgent)
	req.SetBasicAuth(a.Username, a.Password)
	if resp, err = straight(s.e.client).Do(req); err != nil {
		return "", classify(ctx, req, err)
	}
	var body struct {
		RefreshToken string `json:"refresh_token"`
	}
	if resp.StatusCode == http.StatusOK {
		if json.NewDecoder(io.LimitReader(resp.Body, maxReason)).Decode(&body) != nil {
			body.RefreshToken = "" // it has another form of its own
		}
	}
	return body.RefreshToken, errors.Join(resp.Body.Close())
}

// parameter is one of a challenge.
var parameter = regexp.MustCompile(`([a-zA-Z_]+)="([^"]*)"`)

// bearer returns the parameters of a challenge for a bearer token; "" of another.
//
// Source: RFC 6750 section 3.
func bearer(challenge string) (realm, service string) {
	scheme, rest, _ := strings.Cut(challenge, " ")
	if !strings.EqualFold(scheme, "bearer") {
		return "", ""
	}
	for _, m := range parameter.FindAllStringSubmatch(rest, -1) {
		switch strings.ToLower(m[1]) {
		case "realm":
			realm = m[2]
		case "service":
			service = m[2]
		}
	}
	return realm, service
}
