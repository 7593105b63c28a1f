package server

import (
	"net/http"

	"lade/internal/errdefs"
)

// errNoSwarmManager is what an engine outside a swarm answers to everything
// that only a manager can do.
func errNoSwarmManager() error {
	return errdefs.Unavailablef("This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.")
}

// noSwarmManager answers operations on a swarm's objects.
func noSwarmManager(http.ResponseWriter, *http.Request) error { return errNoSwarmManager() }

// noSwarm answers operations on this node's part in a swarm.
func noSwarm(http.ResponseWriter, *http.Request) error {
	return errdefs.Unavailablef("This node is not part of a swarm")
}
