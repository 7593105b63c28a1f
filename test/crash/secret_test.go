package crash

import (
	"context"

	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"
)

func (p *player) makeSecret(o *object) {
	p.do(o, "create", there, nil, func(ctx context.Context) error {
		_, err := p.c.SecretCreate(ctx, client.SecretCreateOptions{Spec: swarm.SecretSpec{Annotations: swarm.Annotations{Name: o.name}, Data: []byte("value")}})
		return err
	})
	if o.state == there { // the containers made from here on have it
		p.annotations = map[string]string{"lade.secrets": o.name}
	}
}

func (p *player) removeSecret(o *object) {
	p.annotations = nil
	p.do(o, "rm", none, nil, func(ctx context.Context) error {
		_, err := p.c.SecretRemove(ctx, o.name, client.SecretRemoveOptions{})
		return err
	})
}
