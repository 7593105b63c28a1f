package server

import (
	"context"
	"net/http"
	"net/url"
	"path"
	"strings"
)

// verbs returns what may follow a name in a family of resources whose names may
// contain slashes, and false for other families. Image references are
// "host/path/name:tag"; names of containers may begin with a slash.
func verbs(family string) ([]string, bool) {
	switch family {
	case "images":
		return []string{"json", "history", "push", "tag", "get", "attestations"}, true
	case "distribution":
		return []string{"json"}, true
	case "plugins":
		return []string{"json", "enable", "disable", "push", "upgrade", "set"}, true
	case "containers":
		return []string{
			"json", "top", "logs", "changes", "export", "stats", "resize", "start", "stop", "restart", "kill",
			"update", "rename", "pause", "unpause", "attach", "attach/ws", "logs/clear", "wait", "archive", "exec", "checkpoints",
		}, true
	}
	return nil, false
}

// split returns the version that a path names ("" when none) and the path
// without it, cleaned and escaped, with a name that contains slashes folded
// into one escaped segment so that {name} in a pattern matches it.
//
// http.ServeMux can neither match a version prefix beside literal patterns nor
// a wildcard of several segments in the middle, and redirects unclean paths to
// where they would be without the prefix.
func split(p string) (version, escaped string) {
	p = path.Clean("/" + p)
	if rest, ok := strings.CutPrefix(p, "/v"); ok {
		if v, after, ok := strings.Cut(rest, "/"); ok && v != "" && strings.Trim(v, "0123456789.") == "" {
			version, p = v, "/"+after
		}
	}
	family, name, ok := strings.Cut(p[1:], "/")
	if ok && strings.Contains(name, "/") {
		if after, folds := verbs(family); folds {
			verb := ""
			for _, v := range after {
				if n, ok := strings.CutSuffix(name, "/"+v); ok {
					name, verb = n, "/"+v
					break
				}
			}
			if n, c, ok := strings.Cut(name, "/checkpoints/"); ok && family == "containers" && verb == "" {
				name, verb = n, "/checkpoints/"+url.PathEscape(c)
			}
			return version, "/" + family + "/" + url.PathEscape(name) + verb
		}
	}
	return version, (&url.URL{Path: p}).EscapedPath()
}

// normalise prepares the request's path for the mux, and its body and its
// context for the handlers.
func normalise(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		named, escaped := split(r.URL.Path)
		plain, err := url.PathUnescape(escaped)
		if err != nil { // cannot be: split escaped it
			plain = escaped
		}
		r = r.WithContext(context.WithValue(r.Context(), callKey{}, &call{named: named}))
		bounded(w, r)
		u := *r.URL
		u.Path, u.RawPath = plain, escaped
		r.URL = &u
		next.ServeHTTP(w, r)
	})
}
