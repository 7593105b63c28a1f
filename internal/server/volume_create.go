package server

import (
	"net/http"

	"github.com/moby/moby/api/types/volume"
)

// volumeCreate makes a volume, or returns the one of that name.
func (s *server) volumeCreate(w http.ResponseWriter, r *http.Request) error {
	var req volume.CreateRequest
	if err := s.decode(r, &req); err != nil {
		return err
	}
	if req.ClusterVolumeSpec != nil {
		return errNoSwarmManager()
	}
	v, err := s.backend.VolumeCreate(lasting(r), req)
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusCreated, v)
}
