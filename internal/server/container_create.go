package server

import (
	"net/http"

	"lade/internal/engine"
	"lade/internal/errdefs"
	"lade/internal/server/compat"
)

// containerCreate makes a container.
func (s *server) containerCreate(w http.ResponseWriter, r *http.Request) error {
	var req compat.CreateRequest
	if err := s.decode(r, &req); err != nil {
		return err
	}
	if req.Config == nil {
		return errdefs.Invalidf("config cannot be empty in order to create a container")
	}
	if h := req.HostConfig; h != nil && h.PidsLimit != nil && *h.PidsLimit <= 0 {
		h.PidsLimit = nil // no limit
	}
	platform, err := parsePlatform(params(r).get("platform"))
	if err != nil {
		return err
	}
	o := engine.CreateOptions{
		Name:       params(r).get("name"),
		Platform:   platform,
		Config:     req.Config,
		Networking: req.NetworkingConfig,

		ReadOnlyNonRecursive: req.ReadOnlyNonRecursive,
	}
	if h := req.HostConfig; h != nil {
		o.HostConfig, o.NetRates = &h.HostConfig, h.Asked
	}
	created, err := s.backend.ContainerCreate(lasting(r), o)
	if err != nil {
		return err
	}
	if created.Warnings == nil {
		created.Warnings = []string{}
	}
	return s.reply(w, r, http.StatusCreated, created)
}
