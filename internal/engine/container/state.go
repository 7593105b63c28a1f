package container

import (
	"slices"

	"github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

// State is where a container is in its life.
type State uint8

const (
	Created State = iota
	Starting
	Running
	Paused
	Restarting // ended, and will be started again by its policy
	Exited
	Removing
	Dead // its removal failed
	Gone
)

var stateNames = [...]string{
	Created: "created", Starting: "starting", Running: "running", Paused: "paused",
	Restarting: "restarting", Exited: "exited", Removing: "removing", Dead: "dead", Gone: "gone",
}

// String returns the state's name.
func (s State) String() string { return stateNames[s] }

// moves is the whole state machine: what may follow what.
var moves = [...][]State{
	Created:    {Starting, Removing},
	Starting:   {Running, Created, Exited, Restarting, Removing},
	Running:    {Paused, Restarting, Exited},
	Paused:     {Running, Restarting, Exited},
	Restarting: {Starting, Exited, Removing},
	Exited:     {Starting, Removing},
	Removing:   {Gone, Dead},
	Dead:       {Removing},
}

// check answers Conflict for a move that the table does not have.
func (s State) check(to State) error {
	if int(s) < len(moves) && slices.Contains(moves[s], to) {
		return nil
	}
	return errdefs.Conflictf("a container that is %s cannot become %s", s, to)
}

// Alive reports whether the container has a process.
func (s State) Alive() bool { return s == Running || s == Paused }

// API returns the state in the API's words; starting is not one of them, the
// container is what it was.
func (r *Record) API() container.ContainerState {
	switch r.State {
	case Starting:
		if r.Returning() {
			return container.StateRestarting
		}
		if r.FinishedAt.IsZero() {
			return container.StateCreated
		}
		return container.StateExited
	case Gone:
		return container.StateRemoving
	}
	return container.ContainerState(r.State.String())
}

// Returning reports whether the container's policy starts it again, now or
// after the back-off. Docker calls both restarting.
func (r *Record) Returning() bool {
	return r.State == Restarting || r.State == Starting && r.RestartCount > 0
}
