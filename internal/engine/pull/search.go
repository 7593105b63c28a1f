package pull

import (
	"context"
	"strconv"

	apiregistry "github.com/moby/moby/api/types/registry"

	"lade/internal/errdefs"
	"lade/internal/filters"
	"lade/internal/registry"
)

// SearchOptions is the request of ImageSearch.
type SearchOptions struct {
	Term    string
	Limit   int // 0: the registry's
	Filters filters.Args
	Auth    *apiregistry.AuthConfig
}

// searchFilters are the filters that a search understands.
var searchFilters = [...]string{"is-automated", "is-official", "stars"}

// ImageSearch asks a registry which repositories are about something. Errors:
// Invalid for a bad term, limit or filter, NotImplemented for a registry without
// search, Unauthorized, Unavailable.
func (p *Puller) ImageSearch(ctx context.Context, o SearchOptions) ([]apiregistry.SearchResult, error) {
	if err := o.Filters.Validate(searchFilters[:]...); err != nil {
		return nil, err
	}
	if o.Term == "" {
		return nil, errdefs.Invalidf("missing parameter: term")
	}
	var want struct{ official, automated bool }
	for _, f := range []struct {
		name string
		to   *bool
	}{{"is-official", &want.official}, {"is-automated", &want.automated}} {
		v, err := o.Filters.Bool(f.name, false)
		if err != nil {
			return nil, err
		}
		*f.to = v
	}
	stars, err := leastStars(o.Filters)
	if err != nil {
		return nil, err
	}
	found, err := p.c.Registry.Client().Search(ctx, registry.SearchOptions{Term: o.Term, Limit: o.Limit, Auth: o.Auth})
	if err != nil {
		return nil, err
	}
	out := []apiregistry.SearchResult{}
	for _, r := range found {
		switch {
		case o.Filters.Has("is-automated") && want.automated,
			o.Filters.Has("is-official") && want.official != r.IsOfficial,
			r.StarCount < stars:
			continue
		}
		out = append(out, r)
	}
	return out, nil
}

// leastStars is the largest of the filter's numbers. Errors: Invalid.
func leastStars(f filters.Args) (int, error) {
	least := 0
	for _, v := range f["stars"] {
		n, err := strconv.Atoi(v)
		if err != nil {
			return 0, errdefs.Invalidf("invalid filter 'stars=%s'", v)
		}
		least = max(least, n)
	}
	return least, nil
}
