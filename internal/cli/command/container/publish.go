package container

import (
	"maps"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/spf13/pflag"

	"lade/internal/cli/opt"
	"lade/internal/publish"
)

// annotate adds annotations: what a container is to have that Docker's API has
// no fields for.
func annotate(h *container.HostConfig, notes map[string]string) {
	if len(notes) == 0 {
		return
	}
	all := maps.Clone(h.Annotations)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, notes)
	h.Annotations = all
}

// republish are the flags of update that change published ports.
type republish struct{ add, rm *opt.List }

func newRepublish(f *pflag.FlagSet) *republish {
	r := &republish{
		add: list(f, "publish-add", "", "Publish a container's port(s) to the host, as -p of run", nil),
		rm:  list(f, "publish-rm", "", "Take back published port(s): [[IP:]HOST:]PORT[/PROTO]", nil),
	}
	opt.Own(f, "publish-add", "publish-rm")
	return r
}

// republishing is what the body of an update says of ports.
type republishing struct {
	PublishAdd publish.Ports `json:",omitempty"`
	PublishRm  publish.Ports `json:",omitempty"`
}

func (r republishing) empty() bool { return len(r.PublishAdd)+len(r.PublishRm) == 0 }

func (r *republish) asked() (out republishing, err error) {
	if out.PublishAdd, err = opt.Publish(r.add.Values()); err == nil {
		out.PublishRm, err = opt.Publish(r.rm.Values())
	}
	return out, err
}

// how returns in words how a port is published, "" where that is Docker's way.
// The engine says it by annotations.
func how(annotations map[string]string, p network.Port, b network.PortBinding) string {
	said, ok := annotations[publish.Port{HostIP: b.HostIP, HostPort: b.HostPort, Port: p}.Annotation()]
	if !ok {
		return ""
	}
	o, err := publish.Parse(said)
	if err != nil { // of a later engine
		return " (" + said + ")"
	}
	var words []string
	if o.Policy != "" && o.Policy != "dnat" {
		words = append(words, o.Policy)
	}
	for i, r := range o.From {
		if i == 0 {
			words = append(words, "from "+r.String())
		} else {
			words = append(words, r.String())
		}
	}
	return " (" + strings.Join(words, ", ") + ")"
}
