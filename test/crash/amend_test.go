package crash

import "context"

// amend changes mounts and more of a container.
func (p *player) amend(o, v *object) {
	p.do(o, "amend", o.state, nil, func(context.Context) error {
		return p.ours("update", "--mount-add", "type=tmpfs,dst=/added", "--mount-add", "type=volume,src="+v.name+",dst=/again", "--label", "a=b", o.name)
	})
}

// publish adds a published port to a running container.
func (p *player) publish(o *object) {
	p.do(o, "publish", o.state, nil, func(context.Context) error {
		return p.ours("update", "--publish-add", "127.0.0.1::80", o.name)
	})
}
