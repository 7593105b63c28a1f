package server

import (
	"net/http"
	"strings"

	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"

	"lade/internal/engine/pull"
	"lade/internal/errdefs"
)

// imageCreate pulls an image from a registry or imports one from a tar.
func (s *server) imageCreate(w http.ResponseWriter, r *http.Request) error {
	q := params(r)
	platform, err := parsePlatform(q.get("platform"))
	if err != nil {
		return err
	}
	if name := q.get("fromImage"); name != "" {
		ref := withTag(name, q.get("tag"))
		return s.progress(w, r, func(p pull.Progress) error {
			return s.backend.ImagePull(r.Context(), pull.Options{
				Reference: ref,
				Platform:  platform,
				Auth:      registryAuth(r),
				All:       !tagged(ref),
				Progress:  p,
			})
		})
	}
	source := q.get("fromSrc")
	if source == "" {
		return errdefs.Invalidf("missing parameter: fromImage or fromSrc")
	}
	if source == "-" {
		source = "" // the body
	}
	return s.progress(w, r, func(p pull.Progress) error {
		return s.backend.ImageImport(r.Context(), pull.ImportOptions{
			Source:    r.Body,
			URL:       source,
			Reference: withTag(q.get("repo"), q.get("tag")),
			Message:   q.get("message"),
			Changes:   q.all("changes"),
			Platform:  platform,
			Progress:  p,
		})
	})
}

// withTag puts a tag or digest that came as a parameter of its own behind a
// name; it takes the place of the name's tag, but not of its digest.
func withTag(name, tag string) string {
	if tag == "" || name == "" || strings.Contains(name, "@") {
		return name
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	if strings.Contains(tag, ":") {
		return name + "@" + tag
	}
	return name + ":" + tag
}

// tagged reports whether a reference names one image.
func tagged(ref string) bool {
	return strings.Contains(ref, "@") || strings.LastIndexByte(ref, ':') > strings.LastIndexByte(ref, '/')
}

// registryAuth reads the credentials for a registry. What cannot be read is no
// error for a pull: it is anonymous then.
func registryAuth(r *http.Request) *registry.AuthConfig {
	auth, err := authconfig.Decode(r.Header.Get(registry.AuthHeader))
	if err != nil || auth == nil || *auth == (registry.AuthConfig{}) {
		return nil
	}
	return auth
}
