package server

import (
	"net/http"

	"github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
	"lade/internal/server/stream"
)

// containerWait answers when a container has stopped or is gone. The header is
// sent as soon as waiting has begun: clients start the container only then.
func (s *server) containerWait(w http.ResponseWriter, r *http.Request) error {
	until := container.WaitCondition(params(r).get("condition"))
	switch until {
	case "":
		until = container.WaitConditionNotRunning
	case container.WaitConditionNotRunning, container.WaitConditionNextExit, container.WaitConditionRemoved:
	default:
		return errdefs.Invalidf("invalid condition: %q", until)
	}
	done, err := s.backend.ContainerWait(r.Context(), r.PathValue("id"), until)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	if err := stream.Begin(w); err != nil {
		return err
	}
	select {
	case res, ok := <-done:
		if !ok {
			return errdefs.Internalf("waiting for container %s ended without a result", r.PathValue("id"))
		}
		return encodeTo(w, res)
	case <-r.Context().Done():
		return r.Context().Err()
	}
}
