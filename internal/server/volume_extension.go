package server

import (
	"net/http"
	"strings"

	"github.com/moby/moby/api/types/volume"

	"lade/internal/engine"
	"lade/internal/errdefs"
)

// Operations on volumes that Docker does not have, below /lade/volumes.

// volumeExport sends the files of a volume as a tar.
func (s *server) volumeExport(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "application/x-tar")
	return s.backend.VolumeExport(r.Context(), r.PathValue("name"), w)
}

// volumeImport makes a volume of a tar.
func (s *server) volumeImport(w http.ResponseWriter, r *http.Request) error {
	q := params(r)
	if q.get("name") == "" {
		return errdefs.Invalidf("missing parameter: name")
	}
	var labels map[string]string
	for _, l := range q.all("label") {
		k, v, _ := strings.Cut(l, "=")
		if labels == nil {
			labels = map[string]string{}
		}
		labels[k] = v
	}
	v, err := s.backend.VolumeImport(r.Context(), engine.VolumeImport{Name: q.get("name"), Labels: labels, Content: r.Body})
	return s.newVolume(w, r, v, err)
}

// volumeClone makes a volume with the files of another.
func (s *server) volumeClone(w http.ResponseWriter, r *http.Request) error {
	to, err := newName(r)
	if err != nil {
		return err
	}
	v, err := s.backend.VolumeClone(lasting(r), r.PathValue("name"), to)
	return s.newVolume(w, r, v, err)
}

// volumeSnapshot makes a volume with the files of another at one moment.
func (s *server) volumeSnapshot(w http.ResponseWriter, r *http.Request) error {
	v, err := s.backend.VolumeSnapshot(lasting(r), r.PathValue("name"), params(r).get("name"))
	return s.newVolume(w, r, v, err)
}

// volumeRename gives a volume another name.
func (s *server) volumeRename(w http.ResponseWriter, r *http.Request) error {
	to, err := newName(r)
	if err != nil {
		return err
	}
	v, err := s.backend.VolumeRename(lasting(r), r.PathValue("name"), to)
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusOK, v)
}

// newName reads the name that an operation gives.
func newName(r *http.Request) (string, error) {
	to := params(r).get("name")
	if to == "" {
		return "", errdefs.Invalidf("missing parameter: name")
	}
	return to, nil
}

func (s *server) newVolume(w http.ResponseWriter, r *http.Request, v *volume.Volume, err error) error {
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusCreated, v)
}
