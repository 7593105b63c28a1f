package registry

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	apiregistry "github.com/moby/moby/api/types/registry"

	"lade/internal/errdefs"
	"lade/internal/reference"
)

// searchHost is where images of docker.io are searched.
const searchHost = "index.docker.io"

// The bounds of SearchOptions.Limit.
const (
	searchLimit    = 25
	searchLimitMax = 100
)

// SearchOptions says what is searched.
type SearchOptions struct {
	Term  string // words, behind the host of a registry and "/" if it is not docker.io
	Limit int    // results; 0 is 25
	Auth  *apiregistry.AuthConfig
}

// Search asks a registry which of its repositories are about something. Only
// registries with the first version of the API, as Docker Hub, can say.
//
// Errors: Invalid for a bad limit or term, NotImplemented for a registry that
// has no search, Unauthorized, Exhausted, Unavailable, the context's.
func (c *Client) Search(ctx context.Context, o SearchOptions) ([]apiregistry.SearchResult, error) {
	if o.Limit == 0 {
		o.Limit = searchLimit
	}
	if o.Limit < 1 || o.Limit > searchLimitMax {
		return nil, errdefs.Invalidf("limit %d is outside the range of [1, %d]", o.Limit, searchLimitMax)
	}
	if strings.Contains(o.Term, "://") {
		return nil, errdefs.Invalidf("invalid repository name: repository name (%s) should not have a scheme", o.Term)
	}
	domain, term := searchDomain(o.Term)
	host := domain
	if domain == reference.DefaultDomain {
		host, term = searchHost, strings.TrimPrefix(term, "library/")
	}
	insecure := c.mayLackTLS(ctx, host)
	q := url.Values{"q": {term}, "n": {strconv.Itoa(o.Limit)}}
	u := &url.URL{Scheme: "https", Host: host, Path: "/v1/search", RawQuery: q.Encode()}
	out, err := c.search(ctx, u, o.Auth)
	if errdefs.KindOf(err) == errdefs.Unavailable && insecure {
		u.Scheme = "http"
		out, err = c.search(ctx, u, o.Auth)
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		switch {
		case r.status == http.StatusNotFound || r.status == http.StatusMethodNotAllowed:
			return nil, errdefs.NotImplementedf("registry %s has no search: it lacks version 1 of the registry API", domain)
		case r.status == http.StatusTooManyRequests:
			return nil, errdefs.Exhaustedf("%w", r)
		case errdefs.KindOf(err) != errdefs.Unauthorized:
			return nil, errdefs.Unavailablef("%w", r)
		}
	}
	return out, err
}

// searchDomain splits a term as Docker does: what is before the first slash is a
// host if it looks like one.
func searchDomain(term string) (domain, rest string) {
	host, rest, ok := strings.Cut(term, "/")
	if !ok || host != "localhost" && !strings.ContainsAny(host, ".:") {
		return reference.DefaultDomain, term
	}
	return host, rest
}

func (c *Client) search(ctx context.Context, u *url.URL, a *apiregistry.AuthConfig) ([]apiregistry.SearchResult, error) {
	guarded, w := watch(ctx, c.Stall)
	defer w.end()
	req, err := http.NewRequestWithContext(guarded, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", c.UserAgent)
	if a != nil && a.IdentityToken != "" {
		req.Header.Set("Authorization", "Bearer "+a.IdentityToken)
	} else if a != nil && a.Username != "" {
		req.SetBasicAuth(a.Username, a.Password)
	}
	resp, err := straight(c.http).Do(req)
	if err != nil {
		return nil, classify(ctx, req, err)
	}
	defer resp.Body.Close() // nothing to learn after the answer was read
	if resp.StatusCode != http.StatusOK {
		return nil, refused(resp)
	}
	var body apiregistry.SearchResults
	if err := json.NewDecoder(io.LimitReader(resp.Body, 4<<20)).Decode(&body); err != nil {
		return nil, errdefs.Unavailablef("registry %s: no answer to a search: %w", u.Host, err)
	}
	return body.Results, nil
}

// straight is a client for requests with credentials, which follow no redirect
// to another place.
func straight(client *http.Client) *http.Client {
	h := *client
	h.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if req.URL.Scheme != via[0].URL.Scheme || req.URL.Host != via[0].URL.Host || len(via) >= maxRedirects {
			return http.ErrUseLastResponse
		}
		return nil
	}
	return &h
}
