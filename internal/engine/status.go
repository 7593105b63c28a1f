package engine

import (
	"time"

	"github.com/docker/go-units"
	apicontainer "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container"
)

// status is a container's state in words, as lists show it, and until when it is
// that while the state is what it is; zero: for ever.
func status(r *container.Record, now time.Time) (text string, until time.Time) {
	since := func(t time.Time) string {
		until = nextWord(t, now)
		return units.HumanDuration(now.Sub(t))
	}
	return inWords(r, since), until
}

// nextWord is when a duration since t may be called otherwise than now: in words
// it is whole seconds, then whole minutes, and then hours, and what is more, that
// begin at each half of one.
func nextWord(t, now time.Time) time.Time {
	passed := now.Sub(t)
	step := 30 * time.Minute
	switch {
	case passed < time.Minute:
		step = time.Second
	case passed < time.Hour:
		step = time.Minute
	}
	return t.Add(passed.Truncate(step) + step)
}

// inWords is status with the words for a time that has passed.
func inWords(r *container.Record, since func(time.Time) string) string {
	if r.Returning() {
		return "Restarting (" + itoa(r.ExitCode) + ") " + since(r.FinishedAt) + " ago"
	}
	switch r.State {
	case container.Running:
		switch h := r.HealthStatus(); h {
		case apicontainer.NoHealthcheck:
		case apicontainer.Starting:
			return "Up " + since(r.StartedAt) + " (health: starting)"
		default:
			return "Up " + since(r.StartedAt) + " (" + string(h) + ")"
		}
		return "Up " + since(r.StartedAt)
	case container.Paused:
		return "Up " + since(r.StartedAt) + " (Paused)"
	case container.Removing:
		return "Removal In Progress"
	case container.Dead:
		return "Dead"
	}
	if r.StartedAt.IsZero() {
		return "Created"
	}
	if r.FinishedAt.IsZero() {
		return ""
	}
	return "Exited (" + itoa(r.ExitCode) + ") " + since(r.FinishedAt) + " ago"
}
