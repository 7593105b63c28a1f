package server

import (
	"context"

	"lade/internal/errdefs"
	"lade/internal/supervisor/wire"
)

// makeUser makes a user namespace beside the loop: it takes a process.
func (s *Server) makeUser(r *request, m *wire.MakeUser) error {
	if s.o.NewUser == nil {
		return errdefs.NotImplementedf("supervisor: user namespaces")
	}
	if err := m.IDs.Check(); err != nil {
		return err
	}
	user, net := -1, -1
	var err error
	r.c.starts++
	s.launch(func() {
		user, net, err = s.o.NewUser(context.Background(), m.IDs, m.Net)
	}, func() {
		if r.c.fd >= 0 {
			r.c.starts--
		} else {
			s.orphans--
		}
		if err != nil {
			r.fail(err)
			return
		}
		made, files := wire.MadeUser{User: 1}, []int{user}
		if m.Net {
			made.Net, files = 2, append(files, net)
		}
		r.answer(made, files)
		closeFDs(user, net)
	})
	return nil
}
