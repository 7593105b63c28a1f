package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"lade/internal/errdefs"
)

// Fetch begins to download a file, for an import. It returns its size in bytes,
// -1 if the server does not say. The caller must Close it. Reading fails when
// the server stalls. Errors: Invalid for a bad URL, NotFound, Unavailable, the
// context's.
func (c *Client) Fetch(ctx context.Context, where string) (io.ReadCloser, int64, error) {
	if !strings.Contains(where, "://") {
		where = "http://" + where // as Docker completes it
	}
	u, err := url.Parse(where)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, 0, errdefs.Invalidf("invalid URL to import from: %q", where)
	}
	guarded, w := watch(ctx, c.Stall)
	req, err := http.NewRequestWithContext(guarded, http.MethodGet, u.String(), nil)
	if err != nil {
		w.end()
		return nil, 0, errdefs.Invalidf("%w", err)
	}
	req.Header.Set("User-Agent", c.UserAgent)
	resp, err := c.http.Do(req)
	if err != nil {
		w.end()
		return nil, 0, classify(ctx, req, err)
	}
	if resp.StatusCode == http.StatusOK {
		return &watchedBody{resp.Body, w}, resp.ContentLength, nil
	}
	w.end()
	err = errdefs.Unavailablef("%s: unexpected HTTP status %s", u.Redacted(), resp.Status)
	if resp.StatusCode == http.StatusNotFound {
		err = errdefs.NotFoundf("%s: not found", u.Redacted())
	}
	return nil, 0, errors.Join(err, resp.Body.Close())
}
