package container

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

// TestHealth follows a container's health through failures, success, a pause
// and its end.
func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		a := make1(t, f, container.HostConfig{})
		a.rec.Config.Healthcheck = &container.HealthConfig{
			Test: []string{"CMD-SHELL", "true"}, Retries: 2, StartPeriod: 10 * time.Second, StartInterval: time.Second,
		}
		if a.View().HealthStatus() != container.NoHealthcheck {
			t.Error("a container that was not started has a health")
		}
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		started := a.View().StartedAt
		check := func(code int, status container.HealthStatus, streak, kept int) {
			t.Helper()
			a.Checked(started, container.HealthcheckResult{Start: time.Now(), End: time.Now(), ExitCode: code})
			h := a.View().Health
			if h.Status != status || h.FailingStreak != streak || len(h.Log) != kept {
				t.Errorf("%s, streak %d, %d results; want %s, %d, %d", h.Status, h.FailingStreak, len(h.Log), status, streak, kept)
			}
		}
		interval := func(want time.Duration) {
			t.Helper()
			if got := a.View().CheckInterval(time.Now()); got != want {
				t.Errorf("the next check is due after %s, want %s", got, want)
			}
		}
		interval(time.Second)
		check(1, container.Starting, 0, 1) // in the start period
		check(1, container.Starting, 0, 2)
		time.Sleep(11 * time.Second)
		interval(30 * time.Second)
		check(1, container.Starting, 1, 3)
		check(3, container.Unhealthy, 2, 4)
		check(0, container.Healthy, 0, 5)
		check(-1, container.Healthy, 1, 5)
		if err := a.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		check(0, container.Unhealthy, 1, 5) // a paused container is not checked
		if err := a.Unpause(t.Context()); err != nil {
			t.Fatal(err)
		}
		check(0, container.Healthy, 0, 5)
		f.exit(0)
		synctest.Wait()
		check(0, container.Unhealthy, 0, 5)
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		check(1, container.Starting, 0, 5) // of the former process
		raw, err := a.View().Encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := Decode(raw); err != nil || back.Health == nil || back.Health.Status != container.Starting {
			t.Errorf("read back: %+v, %v", back, err)
		}
	})
}

func TestCheckHealth(t *testing.T) {
	for _, tc := range []struct {
		h    *container.HealthConfig
		on   string
		want string
	}{
		{nil, "", ""},
		{&container.HealthConfig{Interval: time.Second, Retries: 1}, "kill", ""},
		{&container.HealthConfig{Interval: time.Microsecond}, "", "Interval in Healthcheck cannot be less than 1ms"},
		{&container.HealthConfig{StartPeriod: -1}, "", "StartPeriod in Healthcheck cannot be less than 1ms"},
		{&container.HealthConfig{Retries: -1}, "", "Retries in Healthcheck cannot be negative"},
		{nil, "explode", `invalid value for lade.health-on-failure: "explode": must be one of none, kill, restart, stop`},
	} {
		err := CheckHealth(tc.h, map[string]string{FailureAnnotation: tc.on})
		if tc.want == "" && err != nil || tc.want != "" && (errdefs.KindOf(err) != errdefs.Invalid || err.Error() != tc.want) {
			t.Errorf("%+v, %q: %v", tc.h, tc.on, err)
		}
	}
}
