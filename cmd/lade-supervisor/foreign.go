package main

import (
	"lade/internal/errdefs"
	"lade/internal/runtime/bundle"
	"lade/internal/runtime/external"
	"lade/internal/supervisor/server"
	"lade/internal/supervisor/wire"
)

// foreign makes, or finds again, the containers of other runtimes.
func foreign(root string, h *external.Host) func(id string, r *wire.Runtime) (server.Foreign, error) {
	return func(id string, r *wire.Runtime) (server.Foreign, error) {
		var b *bundle.Bundle
		var err error
		if r != nil {
			b, err = bundle.Create(root, id, bundle.Runtime(*r))
		} else {
			b, err = bundle.Open(root, id)
		}
		if err != nil {
			return nil, err
		}
		switch b.Runtime.Kind {
		case "oci":
			return external.New(h, b), nil
		}
		return nil, errdefs.NotImplementedf("runtime %s is of the unknown kind %q", b.Runtime.Name, b.Runtime.Kind)
	}
}
