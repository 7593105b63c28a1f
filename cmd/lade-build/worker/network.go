package worker

import (
	"context"
	"errors"
	"fmt"
	"os"

	resources "github.com/moby/buildkit/executor/resources/types"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/util/network"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/build"
)

// bridge has laded connect the steps with its default bridge.
type bridge struct{ host *build.Host }

// Close implements network.Provider.
func (bridge) Close() error { return nil }

// New implements network.Provider.
func (b bridge) New(ctx context.Context, _ string, _ network.NamespaceOptions) (network.Namespace, error) {
	id := "build-" + identity.NewID()
	n, err := b.host.Connect(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("failed to set up the network of a step: %w", err)
	}
	ns := &namespace{host: b.host, id: id}
	if ns.file, err = os.Open(n.Path); err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	return ns, nil
}

// namespace is the network of one step.
type namespace struct {
	host *build.Host
	id   string
	file *os.File
}

// Set implements network.Namespace.
func (n *namespace) Set(s *specs.Spec) error {
	for i := range s.Linux.Namespaces {
		if s.Linux.Namespaces[i].Type == specs.NetworkNamespace {
			s.Linux.Namespaces[i].Path = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd())
			return nil
		}
	}
	return errors.New("the specification has no network namespace")
}

// Close implements network.Namespace.
func (n *namespace) Close() error {
	var err error
	if n.file != nil {
		err = n.file.Close()
		n.file = nil
	}
	return errors.Join(err, n.host.Disconnect(context.Background(), n.id))
}

// Sample implements network.Namespace: nothing is measured.
func (*namespace) Sample() (*resources.NetworkSample, error) { return nil, nil }
