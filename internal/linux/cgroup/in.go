package cgroup

import (
	"maps"

	"lade/internal/errdefs"
)

// In returns g with another place for new processes in the hierarchy of a
// controller of version 1: the group at path, which must exist. See AttachFDs.
// Errors: Invalid if the controller is not one of version 1; NotFound.
func (g *Group) In(controller, path string) (*Group, error) {
	m, ok := g.h.v1At(controller)
	if !ok {
		return nil, errdefs.Invalidf("there is no controller %q in a hierarchy of version 1", controller)
	}
	rel, err := clean(path)
	if err != nil {
		return nil, err
	}
	out := *g
	out.elsewhere = maps.Clone(g.elsewhere)
	if out.elsewhere == nil {
		out.elsewhere = map[*hierarchy]string{}
	}
	out.elsewhere[m] = rel
	if !m.exists(rel) {
		return nil, errdefs.NotFoundf("the control group /%s does not exist for %s", rel, controller)
	}
	return &out, nil
}

// place returns where in a hierarchy new processes are to be.
func (g *Group) place(m *hierarchy) string {
	if p, ok := g.elsewhere[m]; ok {
		return p
	}
	return g.path
}
