package server

import (
	"net/http"

	"github.com/moby/moby/api/types/volume"
)

// volumeList lists volumes.
func (s *server) volumeList(w http.ResponseWriter, r *http.Request) error {
	f, err := params(r).filters()
	if err != nil {
		return err
	}
	list, err := s.backend.VolumeList(r.Context(), f)
	if err != nil {
		return err
	}
	if list.Volumes == nil {
		list.Volumes = []volume.Volume{}
	}
	return s.reply(w, r, http.StatusOK, list)
}
