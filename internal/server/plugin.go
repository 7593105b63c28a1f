package server

import (
	"net/http"

	"lade/internal/errdefs"
)

// noSuchPlugin answers operations on a plugin: there is none. "docker inspect"
// asks for a plugin when nothing else has the name, and needs to hear so.
func noSuchPlugin(_ http.ResponseWriter, r *http.Request) error {
	return errdefs.NotFoundf("plugin %q not found", r.PathValue("name"))
}
