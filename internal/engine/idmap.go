package engine

import (
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/mount"

	"lade/internal/engine/container"
	"lade/internal/engine/spec"
	"lade/internal/errdefs"
)

// isIDMap reports whether an option of a mount is idmap or ridmap.
func isIDMap(option string) bool {
	_, _, ok := spec.IsIDMap(option)
	return ok
}

// translateBind has the ids of a bind's files translated. Errors: Invalid for the
// map, and for a second one.
func translateBind(m *container.Mount, option string) error {
	text, _, _ := spec.IsIDMap(option)
	if _, err := spec.ParseMountMap(text); err != nil {
		return err
	}
	if slices.ContainsFunc(m.Options, isIDMap) {
		return errdefs.Invalidf("invalid idmap of %s: there are two", m.Destination)
	}
	m.Options = append(m.Options, option)
	return nil
}

// annotatedMaps gives binds the maps that annotations ask for. Errors: Invalid,
// also where no bind is.
func annotatedMaps(all []container.Mount, annotations map[string]string) error {
	for key, value := range annotations {
		place, ok := strings.CutPrefix(key, spec.IDMapPrefix)
		if !ok {
			continue
		}
		i := slices.IndexFunc(all, func(m container.Mount) bool { return m.Destination == path.Clean(place) && m.Type == mount.TypeBind })
		if i < 0 {
			return errdefs.Invalidf("invalid annotation %s: nothing is bound on %s", key, place)
		}
		option := "idmap"
		if value != "" {
			option += "=" + value
		}
		if err := translateBind(&all[i], option); err != nil {
			return err
		}
	}
	return nil
}

// checkIDMaps refuses binds that are to be translated by the map of a container
// that has none, since its ids are the host's.
func checkIDMaps(r *container.Record) error {
	if r.UserNS != nil {
		return nil
	}
	for _, m := range r.Mounts {
		for _, o := range m.Options {
			text, _, ok := spec.IsIDMap(o)
			if !ok {
				continue
			}
			if own, err := spec.ParseMountMap(text); err == nil && own.Empty() {
				return errdefs.Invalidf("invalid mode: idmap: the container of %s has no user namespace", m.Destination)
			}
		}
	}
	return nil
}
