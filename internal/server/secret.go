package server

import (
	"context"
	"net/http"
	"strconv"

	"github.com/moby/moby/api/types/swarm"

	"lade/internal/errdefs"
	"lade/internal/filters"
)

// The operations on secrets and configs, which are the same for both.

func (s *server) secretList(w http.ResponseWriter, r *http.Request) error {
	return listKept(s, w, r, s.backend.SecretList)
}

func (s *server) configList(w http.ResponseWriter, r *http.Request) error {
	return listKept(s, w, r, s.backend.ConfigList)
}

func listKept[T any](s *server, w http.ResponseWriter, r *http.Request, list func(context.Context, filters.Args) ([]T, error)) error {
	f, err := params(r).filters()
	if err != nil {
		return err
	}
	all, err := list(r.Context(), f)
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusOK, all)
}

func (s *server) secretCreate(w http.ResponseWriter, r *http.Request) error {
	return createKept(s, w, r, s.backend.SecretCreate)
}

func (s *server) configCreate(w http.ResponseWriter, r *http.Request) error {
	return createKept(s, w, r, s.backend.ConfigCreate)
}

func createKept[T any](s *server, w http.ResponseWriter, r *http.Request, create func(context.Context, T) (string, error)) error {
	var spec T
	if err := s.decode(r, &spec); err != nil {
		return err
	}
	id, err := create(lasting(r), spec)
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusCreated, swarm.SecretCreateResponse{ID: id}) // a config's is the same
}

func (s *server) secretInspect(w http.ResponseWriter, r *http.Request) error {
	return inspectKept(s, w, r, s.backend.SecretInspect)
}

func (s *server) configInspect(w http.ResponseWriter, r *http.Request) error {
	return inspectKept(s, w, r, s.backend.ConfigInspect)
}

func inspectKept[T any](s *server, w http.ResponseWriter, r *http.Request, inspect func(context.Context, string) (T, error)) error {
	one, err := inspect(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return s.reply(w, r, http.StatusOK, one)
}

func (s *server) secretUpdate(w http.ResponseWriter, r *http.Request) error {
	return updateKept(s, r, s.backend.SecretUpdate)
}

func (s *server) configUpdate(w http.ResponseWriter, r *http.Request) error {
	return updateKept(s, r, s.backend.ConfigUpdate)
}

// updateKept answers 200 without a body.
func updateKept[T any](s *server, r *http.Request, update func(context.Context, string, uint64, T) error) error {
	var spec T
	if err := s.decode(r, &spec); err != nil {
		return err
	}
	asked := params(r).get("version")
	version, err := strconv.ParseUint(asked, 10, 64)
	if err != nil {
		return errdefs.Invalidf("invalid version '%s': %w", asked, err)
	}
	return update(lasting(r), r.PathValue("id"), version, spec)
}

func (s *server) secretRemove(w http.ResponseWriter, r *http.Request) error {
	return removeKept(w, r, s.backend.SecretRemove)
}

func (s *server) configRemove(w http.ResponseWriter, r *http.Request) error {
	return removeKept(w, r, s.backend.ConfigRemove)
}

func removeKept(w http.ResponseWriter, r *http.Request, remove func(context.Context, string) error) error {
	if err := remove(lasting(r), r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
