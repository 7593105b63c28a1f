package server

import (
	"net/http"

	"lade/internal/engine/stats"
	"lade/internal/errdefs"
	"lade/internal/server/stream"
)

// containerStats reports what a container uses, once or every second.
func (s *server) containerStats(w http.ResponseWriter, r *http.Request) error {
	q := params(r)
	o := stats.Options{Stream: q.boolOr("stream", true), OneShot: q.bool("one-shot")}
	if o.Stream && o.OneShot {
		return errdefs.Invalidf("cannot have stream=true and one-shot=true")
	}
	samples, err := s.backend.ContainerStats(r.Context(), r.PathValue("id"), o)
	if err != nil {
		return err
	}
	if !o.Stream {
		for sample, err := range samples {
			if err != nil {
				return err
			}
			return s.reply(w, r, http.StatusOK, sample)
		}
		return errdefs.Internalf("no statistics of container %s", r.PathValue("id"))
	}
	w.Header().Set("Content-Type", "application/json")
	if err := stream.Begin(w); err != nil {
		return err
	}
	out := stream.NewWriter(w)
	for sample, e := range samples {
		if err = e; err == nil {
			err = s.send(out, r, sample)
		}
		if err != nil {
			break
		}
	}
	return ended(r, err, out.Close())
}
