package main

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	apibuild "github.com/moby/moby/api/types/build"

	"lade/internal/errdefs"
	"lade/internal/filters"
)

// usage is what the cache consists of, in the API's words.
func (s *service) usage(r *http.Request) (any, error) {
	all, err := s.worker.DiskUsage(r.Context(), client.DiskUsageInfo{})
	if err != nil {
		return nil, err
	}
	out := []apibuild.CacheRecord{}
	for _, u := range all {
		out = append(out, apibuild.CacheRecord{
			ID: u.ID, Parents: u.Parents, Type: string(u.RecordType), Description: u.Description, InUse: u.InUse, Shared: u.Shared,
			Size: u.Size, CreatedAt: u.CreatedAt, LastUsedAt: u.LastUsedAt, UsageCount: u.UsageCount,
		})
	}
	return out, nil
}

// fields are the filters of a prune that BuildKit knows.
var fields = map[string]bool{"id": true, "parent": true, "type": true, "description": true, "inuse": true, "shared": true, "private": true}

// prune removes records of the cache. Errors: Invalid.
func (s *service) prune(r *http.Request) (any, error) {
	info, err := pruneInfo(r)
	if err != nil {
		return nil, err
	}
	report, err := s.remove(r.Context(), info)
	return report, err
}

// remove removes records, and then what only they needed.
func (s *service) remove(ctx context.Context, info client.PruneInfo) (*apibuild.CachePruneReport, error) {
	report := &apibuild.CachePruneReport{CachesDeleted: []string{}}
	removed := make(chan client.UsageInfo)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for u := range removed {
			report.CachesDeleted = append(report.CachesDeleted, u.ID)
			report.SpaceReclaimed += uint64(u.Size)
		}
	}()
	err := s.worker.Prune(ctx, removed, info)
	close(removed)
	<-done
	if err != nil {
		return nil, err
	}
	if err := s.worker.GarbageCollect(ctx); err != nil {
		return nil, err
	}
	return report, s.worker.GiveBack(ctx)
}

// pruneInfo reads the parameters of the API's BuildPrune.
func pruneInfo(r *http.Request) (client.PruneInfo, error) {
	q := r.URL.Query()
	info := client.PruneInfo{All: q.Get("all") == "1" || q.Get("all") == "true"}
	for name, to := range map[string]*int64{
		"keep-storage": &info.ReservedSpace, "reserved-space": &info.ReservedSpace, "max-used-space": &info.MaxUsedSpace, "min-free-space": &info.MinFreeSpace,
	} {
		if v := q.Get(name); v != "" {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				return info, errdefs.Invalidf("%s is in bytes and expects an integer, got %s", name, v)
			}
			*to = max(*to, n)
		}
	}
	f, err := filters.Parse(q.Get("filters"))
	if err != nil {
		return info, err
	}
	var terms []string
	for name, values := range f {
		switch {
		case name == "until" || name == "unused-for":
			if len(values) != 1 {
				return info, errdefs.Invalidf("filters expect only one value for %q", name)
			}
			if info.KeepDuration, err = time.ParseDuration(values[0]); err != nil {
				return info, errdefs.Invalidf("%q filter expects a duration (e.g., '24h'): %w", name, err)
			}
		case !fields[name]:
			return info, errdefs.Invalidf("invalid filter '%s'", name)
		default:
			for _, v := range values {
				if v == "" {
					terms = append(terms, name)
				} else if name == "id" {
					terms = append(terms, name+"~="+v)
				} else {
					terms = append(terms, name+"=="+v)
				}
			}
		}
	}
	if len(terms) > 0 {
		info.Filter = []string{strings.Join(terms, ",")}
	}
	return info, nil
}
