package container

import (
	"context"
	"time"

	"github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

// OnUnhealthy is the restart policy that Docker does not have: on-failure, for
// which becoming unhealthy is a failure, too.
const OnUnhealthy container.RestartPolicyMode = "on-unhealthy"

// CheckPolicy answers Invalid for a restart policy that cannot be, in Docker's
// words.
func CheckPolicy(p container.RestartPolicy) error {
	if p.Name == OnUnhealthy {
		p.Name = container.RestartPolicyOnFailure
	}
	if err := container.ValidateRestartPolicy(p); err != nil {
		return errdefs.Invalidf("%w", err)
	}
	return nil
}

// Renews reports whether the container's policy wants it stopped and started
// because it is unhealthy.
func (r *Record) Renews() bool {
	p := r.HostConfig.RestartPolicy
	return p.Name == OnUnhealthy && r.sick() && !r.Stopped && r.retries(p)
}

// sick reports whether the checks found that the container is unhealthy.
func (r *Record) sick() bool { return r.Health != nil && r.Health.Status == container.Unhealthy }

// retries reports whether a policy with a maximum allows one more restart.
func (r *Record) retries(p container.RestartPolicy) bool {
	return p.MaximumRetryCount == 0 || r.RestartCount < p.MaximumRetryCount
}

// restarts reports whether the policy wants the container, which has ended, started
// again. sick says that it was unhealthy when it ended.
func (r *Record) restarts(sick bool) bool {
	p := r.HostConfig.RestartPolicy
	switch {
	case r.Stopped || r.HostConfig.AutoRemove:
		return false
	case p.IsAlways(), p.IsUnlessStopped():
		return true
	case p.IsOnFailure():
		return r.ExitCode != 0 && r.retries(p)
	case p.Name == OnUnhealthy:
		return (sick || r.ExitCode != 0) && r.retries(p)
	}
	return false
}

// Renew is Stop of a container that its policy then starts again. Errors:
// Conflict if it does not run.
func (a *Actor) Renew(ctx context.Context, signal int, timeout time.Duration) error {
	var exited <-chan struct{}
	err := a.call(ctx, func(reply func(error)) {
		a.idle(func() {
			if !a.rec.Renews() || a.rec.State != Running {
				reply(errdefs.Conflictf("container %s is not unhealthy", a.id))
				return
			}
			exited = a.nextExit()
			reply(nil)
		})
	})
	if err != nil {
		return err
	}
	// Not found: it has just ended, and we are about to be told.
	if err := a.signal(ctx, signal, false); err != nil && errdefs.KindOf(err) != errdefs.NotFound {
		return err
	}
	if wait(ctx, exited, timeout) {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return a.killAndWait(ctx, exited)
}
