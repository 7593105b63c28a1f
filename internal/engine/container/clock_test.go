package container

import (
	"os"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"lade/internal/linux/proc"
)

// TestClockSetBetween: nor does that of a container that another engine has
// started, before the clock was set.
func TestClockSetBetween(t *testing.T) {
	youngest, err := proc.Age(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for what, moved := range map[string]time.Duration{"a year forward": 365 * 24 * time.Hour, "an hour back": -time.Hour} {
		r := &Record{
			Pid: os.Getpid(), StartedAt: time.Now().Add(-moved), // the process is the test's
			Config:     &container.Config{Healthcheck: &container.HealthConfig{Test: []string{"CMD", "true"}}},
			HostConfig: &container.HostConfig{},
		}
		r.Clock()
		ran := r.Ran(time.Now())
		oldest, err := proc.Age(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		const tick = time.Second / 100 // of what the kernel says of a start
		if ran < youngest-tick || ran > oldest+tick {
			t.Errorf("%s: the process has run for %s, not %s", what, oldest, ran)
		}
	}
}

// TestClockSet: how long a container has run does not depend on what somebody
// does to the machine's clock, and so neither does what is reckoned with it.
func TestClockSet(t *testing.T) {
	for what, moved := range map[string]time.Duration{"a year forward": 365 * 24 * time.Hour, "an hour back": -time.Hour} {
		now := time.Now()
		r := &Record{
			Config: &container.Config{Healthcheck: &container.HealthConfig{
				Test: []string{"CMD", "true"}, StartPeriod: time.Minute, StartInterval: time.Second, Interval: time.Hour,
			}},
			// What the clock said at the start, a moment ago, is now wrong by moved.
			StartedAt: now.Add(-moved), began: now.Add(-30 * time.Second),
			Health: &container.Health{Status: container.Starting},
		}
		if got := r.Ran(now); got != 30*time.Second {
			t.Errorf("%s: it has run for %s", what, got)
		}
		if got := r.CheckInterval(now); got != time.Second {
			t.Errorf("%s: in its start period it is checked every %s", what, got)
		}
		if got := r.CheckInterval(now.Add(31 * time.Second)); got != time.Hour {
			t.Errorf("%s: after its start period it is checked every %s", what, got)
		}
		if h := r.judge(container.HealthcheckResult{Start: now, ExitCode: 1}); h.FailingStreak != 0 {
			t.Errorf("%s: a failure of the start period counts", what)
		}
	}
}
