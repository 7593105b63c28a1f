package engine

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/ids"
)

// index finds containers by id, name and prefix. Names are reserved before
// the container exists, so that two creates cannot take the same one.
type index struct {
	mu    sync.RWMutex
	byID  map[string]*indexed
	names map[string]string // name → id
	// sorted are the ids in order, for prefixes; nil after a change.
	sorted []string
	// newest are all, in the order of lists; nil after a change, and never changed
	// itself.
	newest []*indexed
}

// indexed is a container, and what lists showed of it last.
type indexed struct {
	*container.Actor
	listing atomic.Pointer[listing]
}

func newIndex() *index {
	return &index{byID: map[string]*indexed{}, names: map[string]string{}}
}

// reserve takes a name for an id; an empty name picks a free one. It returns
// the name. Errors: Invalid for a bad name, Conflict for one in use.
func (r *index) reserve(name, id string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name == "" {
		for attempt := 0; ; attempt++ {
			n := ids.Name(attempt)
			if _, taken := r.names[n]; !taken {
				r.names[n] = id
				return n, nil
			}
		}
	}
	name = strings.TrimPrefix(name, "/")
	if !ids.ValidName(name) {
		return "", errdefs.Invalidf("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	if owner, taken := r.names[name]; taken {
		if owner == id {
			return name, nil
		}
		return "", errdefs.Conflictf("Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.", "/"+name, owner)
	}
	r.names[name] = id
	return name, nil
}

// free gives a name back if id has it.
func (r *index) free(name, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.names[name] == id {
		delete(r.names, name)
	}
}

// add makes a container findable; its name must be reserved.
func (r *index) add(a *container.Actor) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byID[a.View().ID] = &indexed{Actor: a}
	r.sorted, r.newest = nil, nil
}

// remove forgets a container and every name of it.
func (r *index) remove(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, id)
	r.sorted, r.newest = nil, nil
	for n, owner := range r.names {
		if owner == id {
			delete(r.names, n)
		}
	}
}

// find returns the container of that id, name, unique prefix of an id, or name by
// another's link. Errors: NotFound, Invalid for an ambiguous prefix.
func (r *index) find(ref string) (*container.Actor, error) {
	if other, alias, ok := strings.Cut(strings.TrimPrefix(ref, "/"), "/"); ok {
		return r.findLinked(ref, other, alias)
	}
	return r.findOwn(ref)
}

// findOwn is find without the names that links give.
func (r *index) findOwn(ref string) (*container.Actor, error) {
	if a, err, done := r.look(ref); done {
		return a, err
	}
	r.mu.Lock()
	if r.sorted == nil {
		for id := range r.byID {
			r.sorted = append(r.sorted, id)
		}
		slices.Sort(r.sorted)
	}
	sorted := r.sorted
	r.mu.Unlock()
	i, _ := slices.BinarySearch(sorted, ref)
	if ref == "" || i == len(sorted) || !strings.HasPrefix(sorted[i], ref) {
		return nil, errdefs.NotFoundf("No such container: %s", ref)
	}
	if i+1 < len(sorted) && strings.HasPrefix(sorted[i+1], ref) {
		return nil, errdefs.Invalidf("Multiple IDs found with provided prefix: %s", ref)
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if a := r.byID[sorted[i]]; a != nil {
		return a.Actor, nil
	}
	return nil, errdefs.NotFoundf("No such container: %s", ref)
}

// findLinked returns the container that another one has a link to. Errors: NotFound.
func (r *index) findLinked(ref, other, alias string) (*container.Actor, error) {
	if a, _, done := r.look(other); done && a != nil && a.View().Name == other {
		if name, ok := namedLinks(a.View())[alias]; ok {
			return r.findOwn(name)
		}
	}
	return nil, errdefs.NotFoundf("No such container: %s", ref)
}

// look tries id and name.
func (r *index) look(ref string) (a *container.Actor, err error, done bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if a := r.byID[ref]; a != nil {
		return a.Actor, nil, true
	}
	if id, ok := r.names[strings.TrimPrefix(ref, "/")]; ok {
		if a := r.byID[id]; a != nil {
			return a.Actor, nil, true
		}
		return nil, errdefs.NotFoundf("No such container: %s", ref), true // reserved, not there yet
	}
	return nil, nil, false
}

// all returns every container, newest first. The list is the caller's.
func (r *index) all() []*container.Actor {
	listed := r.list()
	all := make([]*container.Actor, len(listed))
	for i, a := range listed {
		all[i] = a.Actor
	}
	return all
}

// list is all, to be read only.
func (r *index) list() []*indexed {
	r.mu.RLock()
	all := r.newest
	r.mu.RUnlock()
	if all != nil {
		return all
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	all = make([]*indexed, 0, len(r.byID))
	for _, a := range r.byID {
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b *indexed) int {
		va, vb := a.View(), b.View()
		if c := vb.Created.Compare(va.Created); c != 0 {
			return c
		}
		return strings.Compare(va.ID, vb.ID)
	})
	r.newest = all
	return all
}
