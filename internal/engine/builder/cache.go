package builder

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	apibuild "github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/common"

	"lade/internal/build"
	"lade/internal/errdefs"
)

// Usage returns what the build cache consists of. Without one it starts nothing.
func (b *Builder) Usage(ctx context.Context) ([]apibuild.CacheRecord, error) {
	if !b.Kept() {
		return nil, nil
	}
	var out []apibuild.CacheRecord
	return out, b.ask(ctx, http.MethodGet, build.UsagePath, &out)
}

// Prune removes of the build cache what the parameters of the API's BuildPrune
// say. Errors: Invalid.
func (b *Builder) Prune(ctx context.Context, q url.Values) (*apibuild.CachePruneReport, error) {
	out := &apibuild.CachePruneReport{}
	if !b.Kept() {
		return out, nil
	}
	return out, b.ask(ctx, http.MethodPost, "/build/prune?"+q.Encode(), out)
}

// Remove removes one record of the build cache and returns how many bytes that
// freed. Errors: Conflict if it stays, since something needs it.
func (b *Builder) Remove(ctx context.Context, id string) (int64, error) {
	filter, err := json.Marshal(map[string][]string{"id": {id}})
	if err != nil {
		return 0, err
	}
	report, err := b.Prune(ctx, url.Values{"all": {"1"}, "filters": {string(filter)}})
	if err != nil {
		return 0, err
	}
	if len(report.CachesDeleted) == 0 {
		return 0, errdefs.Conflictf("the record %s of the build cache is in use", id)
	}
	return int64(report.SpaceReclaimed), nil
}

// ask has lade-build answer a request without a body.
func (b *Builder) ask(ctx context.Context, method, path string, out any) error {
	r, err := http.NewRequestWithContext(ctx, method, "http://lade-build"+path, nil)
	if err != nil {
		return err
	}
	resp, err := b.Client().Do(r)
	if err != nil {
		return errdefs.Unavailablef("the builder does not answer: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return json.NewDecoder(resp.Body).Decode(out)
	}
	var failed common.ErrorResponse
	if err := json.NewDecoder(resp.Body).Decode(&failed); err != nil {
		return err
	}
	if resp.StatusCode == http.StatusBadRequest {
		return errdefs.Invalidf("%s", failed.Message)
	}
	return errdefs.Internalf("%s", failed.Message)
}
