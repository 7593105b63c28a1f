package server

import (
	"net/http"

	"lade/internal/engine"
)

// containerAttach connects the client to a container's streams.
func (s *server) containerAttach(w http.ResponseWriter, r *http.Request) error {
	return s.attach(r, s.hijack(w, r))
}

// attach connects what hijack takes over with the streams that the request asks
// for.
func (s *server) attach(r *http.Request, hijack engine.Hijack) error {
	q := params(r)
	return s.backend.ContainerAttach(r.Context(), r.PathValue("id"), engine.AttachOptions{
		Stdin:      q.bool("stdin"),
		Stdout:     q.bool("stdout"),
		Stderr:     q.bool("stderr"),
		Stream:     q.bool("stream"),
		Logs:       q.bool("logs"),
		DetachKeys: q.get("detachKeys"),
		Hijack:     hijack,
	})
}
