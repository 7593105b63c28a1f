package network

import (
	"context"

	"github.com/moby/moby/api/types/network"

	"lade/internal/errdefs"
)

// Networks are the networks of one engine.
type Networks struct{}

// New makes or repairs the bridge and the table, loads the records and starts
// to fill the pool. It is idempotent, also after a crash.
func New(ctx context.Context, c Config) (*Networks, error) {
	return nil, errdefs.NotImplementedf("networks")
}

// Connect gives a container its namespace, address and published ports. On
// error nothing remains. Errors: NotFound for the network, Exhausted without a
// free address, Internal with Docker's words for a port that is taken.
func (n *Networks) Connect(ctx context.Context, r Request) (*Endpoint, error) {
	return nil, errdefs.NotImplementedf("networks")
}

// Release gives back the address and the ports of a container that ended.
// It is idempotent and never waits for the namespace to go away.
func (n *Networks) Release(ctx context.Context, containerID string) error { return nil }

// Restore keeps the endpoints of the containers in live and releases all
// others, together with links that belong to nobody. It is called once, before
// the first Connect.
func (n *Networks) Restore(ctx context.Context, live map[string]bool) error { return nil }

// Endpoint returns a container's endpoint, without NetNS.
func (n *Networks) Endpoint(containerID string) (*Endpoint, bool) { return nil, false }

// Rename tells Inspect the new name of a connected container.
func (n *Networks) Rename(containerID, name string) error { return nil }

// List returns the networks, without their containers.
func (n *Networks) List() []network.Summary { return nil }

// Inspect returns a network by its name, id, or a unique prefix of the id.
// Errors: NotFound, Invalid for an ambiguous prefix.
func (n *Networks) Inspect(name string) (*network.Inspect, error) {
	return nil, errdefs.NotFoundf("network %s not found", name)
}

// Stats returns the counters of a container's interfaces by their name inside
// (eth0); none for host and none. Errors: NotFound for an unknown container.
func (n *Networks) Stats(containerID string) (map[string]Counters, error) { return nil, nil }

// Gateway returns the address of the default bridge, which "host-gateway"
// stands for; zero when there is none.
//
// Close ends the pool and gives the sockets back. What containers need stays.
func (n *Networks) Close() error { return nil }

// Destroy closes n and removes bridge, table and records of this engine.
func (n *Networks) Destroy(ctx context.Context) error { return nil }
