package container

import (
	"slices"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"lade/internal/errdefs"
)

// What holds for a health check that does not say otherwise, as in Docker.
const (
	checkInterval = 30 * time.Second
	checkTimeout  = 30 * time.Second
	startInterval = 5 * time.Second
	checkRetries  = 3
	// checkKeep is how many results are kept.
	checkKeep = 5
)

// FailureAnnotation says what happens to a container that becomes unhealthy.
// It is an annotation because every client of Docker's can send one.
const FailureAnnotation = "lade.health-on-failure"

// What a container's FailureAnnotation may be; empty is FailureNone.
const (
	FailureNone    = "none"
	FailureKill    = "kill"    // SIGKILL; its restart policy says whether it comes back
	FailureRestart = "restart" // as ContainerRestart
	FailureStop    = "stop"    // as ContainerStop
)

// CheckHealth answers Invalid for a health check that cannot be, in Docker's
// words.
func CheckHealth(h *container.HealthConfig, annotations map[string]string) error {
	switch annotations[FailureAnnotation] {
	case "", FailureNone, FailureKill, FailureRestart, FailureStop:
	default:
		return errdefs.Invalidf("invalid value for %s: %q: must be one of none, kill, restart, stop", FailureAnnotation, annotations[FailureAnnotation])
	}
	if h == nil {
		return nil
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if d.value != 0 && d.value < container.MinimumDuration {
			return errdefs.Invalidf("%s in Healthcheck cannot be less than %s", d.name, container.MinimumDuration)
		}
	}
	if h.Retries < 0 {
		return errdefs.Invalidf("Retries in Healthcheck cannot be negative")
	}
	return nil
}

// Check is the command that tells the container's health, nil if there is none.
func (r *Record) Check() []string {
	h := r.Config.Healthcheck
	if h == nil || len(h.Test) < 2 {
		return nil
	}
	switch h.Test[0] {
	case "CMD":
		return h.Test[1:]
	case "CMD-SHELL":
		shell := r.Config.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		return slices.Concat(shell, h.Test[1:])
	}
	return nil // NONE, and what Docker ignores, too
}

// CheckTimeout is how long a check may take.
func (r *Record) CheckTimeout() time.Duration {
	return or(r.Config.Healthcheck.Timeout, checkTimeout)
}

// CheckInterval is how long after the last check, or the start, the next one
// begins.
func (r *Record) CheckInterval(now time.Time) time.Duration {
	h := r.Config.Healthcheck
	if r.Ran(now) < h.StartPeriod && r.HealthStatus() == container.Starting {
		return or(h.StartInterval, startInterval)
	}
	return or(h.Interval, checkInterval)
}

func or(d, other time.Duration) time.Duration {
	if d == 0 {
		return other
	}
	return d
}

// HealthStatus is what is known of the container's health.
func (r *Record) HealthStatus() container.HealthStatus {
	if r.Health == nil {
		return container.NoHealthcheck
	}
	return r.Health.Status
}

// moved returns the health of a container whose state has changed from another.
// Like Docker's, a container whose checks have ended counts as unhealthy.
func (r *Record) moved(from State) *container.Health {
	switch {
	case r.State == Running && from == Starting:
		if r.Check() == nil {
			return nil
		}
		h := &container.Health{Status: container.Starting}
		if r.Health != nil {
			h.Log = r.Health.Log
		}
		return h
	case from.Alive() && r.State != Running:
		return r.unwatched()
	}
	return r.Health
}

// unwatched is the health of a container that is not checked any more.
func (r *Record) unwatched() *container.Health {
	if r.Health == nil {
		return nil
	}
	h := *r.Health
	h.Status = container.Unhealthy
	return &h
}

// judge returns the health after one more check.
func (r *Record) judge(result container.HealthcheckResult) *container.Health {
	h := *r.Health
	h.Log = append(slices.Clone(h.Log[max(0, len(h.Log)-checkKeep+1):]), &result)
	config := r.Config.Healthcheck
	switch {
	case result.ExitCode == 0:
		h.FailingStreak, h.Status = 0, container.Healthy
	case h.Status == container.Starting && r.Ran(result.Start) < config.StartPeriod:
	default:
		retries := config.Retries
		if retries == 0 {
			retries = checkRetries
		}
		if h.FailingStreak++; h.FailingStreak >= retries {
			h.Status = container.Unhealthy
		}
	}
	return &h
}

// Checked tells the actor what a check found of the process that was started
// then. It reports whether that made the container unhealthy. A result is
// written only when it changes the status: the five last ones are worth no
// write every few seconds for each container.
func (a *Actor) Checked(started time.Time, result container.HealthcheckResult) (unhealthy bool) {
	done := make(chan struct{})
	if !a.post(func() {
		defer close(done)
		if a.rec.State != Running || a.rec.Health == nil || !a.rec.StartedAt.Equal(started) {
			return
		}
		next := a.rec
		next.Health = a.rec.judge(result)
		status := next.Health.Status
		if status == a.rec.Health.Status {
			a.show(next)
			return
		}
		action := events.ActionHealthStatus + ": " + events.Action(status)
		if err := a.commit(next, false, action, nil); err != nil {
			a.log.Error("the health could not be recorded", "error", err)
			a.show(next)
		}
		unhealthy = status == container.Unhealthy
	}) {
		return false
	}
	select {
	case <-done:
		return unhealthy
	case <-a.done:
		return false
	}
}
