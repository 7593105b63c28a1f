package filters

import (
	"encoding/json"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"lade/internal/errdefs"
)

// Args holds the wanted values of each key. The nil Args matches everything.
type Args map[string][]string

// Parse reads the parameter's value; empty means no filter. A malformed value
// is Invalid.
func Parse(s string) (Args, error) {
	if s == "" {
		return nil, nil
	}
	var list map[string][]string
	if err := json.Unmarshal([]byte(s), &list); err == nil {
		return Args(list), nil
	}
	var sets map[string]map[string]bool
	if err := json.Unmarshal([]byte(s), &sets); err != nil {
		return nil, errdefs.Invalidf("invalid filter: %w", err)
	}
	a := Args{}
	for k, set := range sets {
		for v, on := range set {
			if on {
				a[k] = append(a[k], v)
			}
		}
		slices.Sort(a[k])
	}
	return a, nil
}

// Validate answers Invalid, in Docker's words, for a key that is not accepted.
func (a Args) Validate(accepted ...string) error {
	for _, k := range slices.Sorted(maps.Keys(a)) {
		if !slices.Contains(accepted, k) {
			return errdefs.Invalidf("invalid filter '%s'", k)
		}
	}
	return nil
}

// Has reports whether the key was given.
func (a Args) Has(key string) bool { return len(a[key]) > 0 }

// Exact reports whether value is one of the key's values, or the key was not given.
func (a Args) Exact(key, value string) bool {
	return !a.Has(key) || slices.Contains(a[key], value)
}

// Match is Exact with the key's values read as regular expressions too, as
// Docker does for names.
func (a Args) Match(key, value string) bool {
	if a.Exact(key, value) {
		return true
	}
	return slices.ContainsFunc(a[key], func(pattern string) bool {
		re, err := regexp.Compile(pattern)
		return err == nil && re.MatchString(value)
	})
}

// Prefix reports whether one of the key's values is a prefix of value, or the
// key was not given.
func (a Args) Prefix(key, value string) bool {
	return !a.Has(key) || slices.ContainsFunc(a[key], func(p string) bool { return strings.HasPrefix(value, p) })
}

// Glob reports whether value matches one of the key's values as a shell
// pattern, or the key was not given.
func (a Args) Glob(key, value string) bool {
	return !a.Has(key) || slices.ContainsFunc(a[key], func(p string) bool {
		ok, err := path.Match(p, value)
		return err == nil && ok
	})
}

// Labels reports whether every value of the key, "name" or "name=value", is
// met by labels or annotations; with no value it is true.
func (a Args) Labels(key string, labels map[string]string) bool {
	for _, want := range a[key] {
		k, v, valued := strings.Cut(want, "=")
		got, ok := labels[k]
		if !ok || (valued && got != v) {
			return false
		}
	}
	return true
}

// Bool returns the key's value as a boolean, or def when it was not given.
// Anything but 0, 1, true and false is Invalid.
func (a Args) Bool(key string, def bool) (bool, error) {
	if !a.Has(key) {
		return def, nil
	}
	switch v := a[key]; {
	case len(v) == 1 && (v[0] == "1" || v[0] == "true"):
		return true, nil
	case len(v) == 1 && (v[0] == "0" || v[0] == "false"):
		return false, nil
	}
	return def, errdefs.Invalidf("invalid filter '%s=%s'", key, a[key])
}
