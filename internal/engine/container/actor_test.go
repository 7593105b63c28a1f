package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"lade/internal/errdefs"
)

// fake is a host whose processes are numbers.
type fake struct {
	mu      sync.Mutex
	actor   *Actor
	running bool
	events  []string
	starts  []time.Time
	saved   []State
	launch  func() error // before a launch succeeds
	ignore  bool         // signals but SIGKILL
	runs    time.Duration
	code    int
	streams int // attached before the last launch
}

func (f *fake) Launch(ctx context.Context, r *Record, attach []Stream) (Launched, error) {
	if f.launch != nil {
		if err := f.launch(); err != nil {
			return Launched{}, err
		}
	}
	f.mu.Lock()
	f.streams = len(attach)
	f.running = true
	f.starts = append(f.starts, time.Now())
	f.mu.Unlock()
	if f.runs > 0 {
		time.AfterFunc(f.runs, func() { f.exit(f.code) })
	}
	return Launched{Pid: 42, StartedAt: time.Now()}, nil
}

func (f *fake) exit(code int) {
	f.mu.Lock()
	was := f.running
	f.running = false
	f.mu.Unlock()
	if was {
		f.actor.Exited(Exit{Code: code, At: time.Now()})
	}
}

func (f *fake) Signal(ctx context.Context, id string, sig int, all bool) error {
	if sig == 9 || !f.ignore {
		go f.exit(128 + sig)
	}
	return nil
}
func (f *fake) Attach(context.Context, *Record, Stream) error { return nil }
func (f *fake) Freeze(context.Context, string, bool) error    { return nil }
func (f *fake) Limit(context.Context, *Record) error          { return nil }
func (f *fake) Release(*Record)                               {}
func (f *fake) Discard(context.Context, *Record) error        { return nil }
func (f *fake) Erase(context.Context, *Record, bool) error    { return nil }
func (f *fake) Gone(*Record)                                  {}
func (f *fake) Watch(*Record)                                 {}
func (f *fake) Save(_ context.Context, r *Record, durable bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.saved = append(f.saved, r.State)
	return nil
}
func (f *fake) Publish(r *Record, action events.Action, more map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, string(action))
}

func make1(t *testing.T, f *fake, hc container.HostConfig) *Actor {
	ctx, cancel := context.WithCancel(t.Context())
	a := New(ctx, Record{ID: "0123456789abcdef", Name: "c", Config: &container.Config{}, HostConfig: &hc}, f, slog.New(slog.NewTextHandler(io.Discard, nil)))
	f.actor = a
	t.Cleanup(func() { cancel(); a.Join() })
	return a
}

// TestContained: a panic of what a start does fails the start, and nothing else.
func TestContained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{launch: func() error { panic("a fault") }}
		a := make1(t, f, container.HostConfig{})
		if err := a.Start(t.Context()); errdefs.KindOf(err) != errdefs.Internal || err.Error() != "internal error: see the daemon's log" {
			t.Errorf("start: %v", err)
		}
		if s := a.View().State; s != Created {
			t.Errorf("it is %v", s)
		}
		f.launch = nil
		if err := a.Start(t.Context()); err != nil {
			t.Errorf("the next start: %v", err)
		}
	})
}

func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		a := make1(t, f, container.HostConfig{})
		removed, err := a.Wait(t.Context(), container.WaitConditionRemoved)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := a.Start(t.Context()); errdefs.KindOf(err) != errdefs.NotModified {
			t.Errorf("second start: %v", err)
		}
		if err := a.Remove(t.Context(), "c", false, false); errdefs.KindOf(err) != errdefs.Conflict ||
			err.Error() != `cannot remove container "c": container is running: stop the container before removing or force remove` {
			t.Errorf("remove of a running one: %v", err)
		}
		if err := a.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := a.Start(t.Context()); errdefs.KindOf(err) != errdefs.Conflict {
			t.Errorf("start of a paused one: %v", err)
		}
		if err := a.Unpause(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := a.Stop(t.Context(), 15, time.Second); err != nil {
			t.Fatal(err)
		}
		if r := a.View(); r.State != Exited || r.ExitCode != 143 {
			t.Errorf("after stop: %s, %d", r.State, r.ExitCode)
		}
		if err := a.Stop(t.Context(), 15, time.Second); errdefs.KindOf(err) != errdefs.NotModified {
			t.Errorf("second stop: %v", err)
		}
		if err := a.Remove(t.Context(), "c", false, false); err != nil {
			t.Fatal(err)
		}
		if got := <-removed; got.StatusCode != 143 {
			t.Errorf("wait: %+v", got)
		}
		if err := a.Start(t.Context()); errdefs.KindOf(err) != errdefs.NotFound {
			t.Errorf("start of a removed one: %v", err)
		}
		want := "[start pause unpause kill die stop destroy]"
		if got := fmt.Sprint(f.events); got != want {
			t.Errorf("events %s, want %s", got, want)
		}
	})
}

// TestAttachThenStart: the client may start the container as soon as it has
// the answer to its attach; what comes out at once must not be lost.
func TestAttachThenStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		a := make1(t, f, container.HostConfig{})
		answered, started := make(chan struct{}), make(chan error, 1)
		go func() {
			<-answered
			started <- a.Start(t.Context())
		}()
		if err := a.Attach(t.Context(), func() (Stream, error) {
			close(answered)
			time.Sleep(time.Second) // the answer was faster than we are
			return Stream{}, nil
		}); err != nil {
			t.Fatal(err)
		}
		if err := <-started; err != nil || f.streams != 1 {
			t.Errorf("started with %d streams: %v", f.streams, err)
		}
	})
}

// TestKillDuringStop: a kill is served while stop waits for its timeout.
func TestKillDuringStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{ignore: true}
		a := make1(t, f, container.HostConfig{})
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		stopped := make(chan error)
		go func() { stopped <- a.Stop(t.Context(), 15, time.Hour) }()
		synctest.Wait()
		if err := a.Kill(t.Context(), 9, true); err != nil {
			t.Fatal(err)
		}
		if err := <-stopped; err != nil || time.Since(begin) > time.Second {
			t.Errorf("stop: %v after %s", err, time.Since(begin))
		}
	})
}

func TestStopTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{ignore: true}
		a := make1(t, f, container.HostConfig{})
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := a.Stop(t.Context(), 15, 3*time.Second); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took < 3*time.Second || took > 4*time.Second || a.View().ExitCode != 137 {
			t.Errorf("stop took %s, exit code %d", took, a.View().ExitCode)
		}
	})
}

func TestFailedStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{launch: func() error { return &StartError{Code: 127, Err: errors.New("not found")} }}
		a := make1(t, f, container.HostConfig{})
		if err := a.Start(t.Context()); err == nil {
			t.Fatal("the start succeeded")
		}
		if r := a.View(); r.State != Created || r.ExitCode != 127 || r.Error != "not found" {
			t.Errorf("after a start that failed: state, exit code, error: %s, %d, %q", r.State, r.ExitCode, r.Error)
		}
		f.launch = nil
		if err := a.Start(t.Context()); err != nil || a.View().ExitCode != 0 {
			t.Errorf("start: %v, %d", err, a.View().ExitCode)
		}
	})
}

func TestAutoRemove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{runs: time.Second, code: 7}
		a := make1(t, f, container.HostConfig{AutoRemove: true})
		next, err := a.Wait(t.Context(), container.WaitConditionNextExit)
		if err != nil {
			t.Fatal(err)
		}
		removed, err := a.Wait(t.Context(), container.WaitConditionRemoved)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n, r := <-next, <-removed; n.StatusCode != 7 || r.StatusCode != 7 {
			t.Errorf("waits: %+v %+v", n, r)
		}
		<-a.Done()
	})
}

// TestRestartAutoRemove: what removes itself is there after a restart, and goes with
// a stop, with a removal while it is being restarted, and with a start that fails.
func TestRestartAutoRemove(t *testing.T) {
	stop := func(t *testing.T, a *Actor, f *fake) error { return a.Stop(t.Context(), 15, time.Second) }
	for what, end := range map[string]func(*testing.T, *Actor, *fake) error{
		"stop": stop,
		"stop while it is restarted": func(t *testing.T, a *Actor, f *fake) error {
			f.ignore = true
			again := make(chan error)
			go func() { again <- a.Restart(t.Context(), 15, time.Minute) }()
			synctest.Wait()
			err := stop(t, a, f)
			return errors.Join(err, want(<-again, errdefs.NotFound))
		},
		"remove while it is restarted": func(t *testing.T, a *Actor, f *fake) error {
			f.ignore = true
			again := make(chan error)
			go func() { again <- a.Restart(t.Context(), 15, time.Minute) }()
			synctest.Wait()
			err := a.Remove(t.Context(), "c", true, true)
			return errors.Join(err, want(<-again, errdefs.NotFound))
		},
		"a start that fails": func(t *testing.T, a *Actor, f *fake) error {
			f.launch = func() error { return errdefs.Invalidf("no") }
			return want(a.Restart(t.Context(), 15, time.Second), errdefs.Invalid)
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{}
				a := make1(t, f, container.HostConfig{AutoRemove: true})
				if err := a.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				cancel() // who has asked does not wait
				for range 2 {
					if err := a.Restart(ctx, 15, time.Second); err != nil {
						t.Fatal(err)
					}
				}
				if a.View().State != Running || len(f.starts) != 3 {
					t.Errorf("after two restarts %s, started at %v", a.View().State, f.starts)
				}
				if err := end(t, a, f); err != nil {
					t.Error(err)
				}
				<-a.Done()
			})
		})
	}
}

// want answers nil for an error of that kind.
func want(err error, kind errdefs.Kind) error {
	if errdefs.KindOf(err) == kind {
		return nil
	}
	return fmt.Errorf("%w, want %s", err, kind)
}

// TestBackoff: restarts are delayed by 100 ms, doubled up to a minute.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{runs: time.Millisecond, code: 1}
		a := make1(t, f, container.HostConfig{RestartPolicy: container.RestartPolicy{Name: "always"}})
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		if a.View().State != Restarting {
			t.Errorf("state %s", a.View().State)
		}
		want := firstDelay
		for i := 1; i < len(f.starts); i++ {
			if gap := f.starts[i].Sub(f.starts[i-1]); gap < want || gap > want+10*time.Millisecond {
				t.Errorf("gap %d: %s, want %s", i, gap, want)
			}
			want = min(2*want, lastDelay)
		}
		if n := len(f.starts); n < 10 {
			t.Errorf("%d starts", n)
		}
		if err := a.Stop(t.Context(), 15, time.Second); err != nil || a.View().State != Exited {
			t.Errorf("stop: %v, %s", err, a.View().State)
		}
		n := len(f.starts)
		time.Sleep(5 * time.Minute)
		if len(f.starts) != n {
			t.Error("a stopped container was started again")
		}
	})
}

func TestOnFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{runs: time.Millisecond, code: 1}
		a := make1(t, f, container.HostConfig{RestartPolicy: container.RestartPolicy{Name: "on-failure", MaximumRetryCount: 3}})
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if r := a.View(); r.State != Exited || r.RestartCount != 3 || len(f.starts) != 4 {
			t.Errorf("%s, %d restarts, %d starts", r.State, r.RestartCount, len(f.starts))
		}
	})
}

// TestEarlyExit: the exit overtakes the reply to the start.
func TestEarlyExit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		f.launch = func() error {
			go f.actor.Exited(Exit{Code: 3, At: time.Now()})
			time.Sleep(time.Second)
			return nil
		}
		a := make1(t, f, container.HostConfig{})
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if r := a.View(); r.State != Exited || r.ExitCode != 3 {
			t.Errorf("state and exit code: %s, %d", r.State, r.ExitCode)
		}
	})
}

// TestRandom: whatever is asked in whatever order, only moves of the table
// happen, every call returns, and the actor ends when it is removed.
func TestRandom(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			f := &fake{ignore: seed%2 == 0, runs: time.Duration(rnd.IntN(3)) * time.Second}
			a := make1(t, f, container.HostConfig{RestartPolicy: container.RestartPolicy{Name: []container.RestartPolicyMode{"no", "always"}[rnd.IntN(2)]}})
			var wg sync.WaitGroup
			for range 100 {
				op := rnd.IntN(8)
				delay := time.Duration(rnd.IntN(2000)) * time.Millisecond
				wg.Go(func() {
					time.Sleep(delay)
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					var err error
					switch op {
					case 0, 1:
						err = a.Start(ctx)
					case 2:
						err = a.Stop(ctx, 15, time.Second)
					case 3:
						err = a.Kill(ctx, 9, true)
					case 4:
						err = a.Pause(ctx)
					case 5:
						err = a.Unpause(ctx)
					case 6:
						err = a.Rename(ctx, "n")
					case 7:
						err = a.Update(ctx, func(*Record) error { return nil })
					}
					if k := errdefs.KindOf(err); errors.Is(err, context.DeadlineExceeded) || err != nil && k == errdefs.Internal && op != 5 {
						t.Errorf("op %d: %v", op, err)
					}
				})
			}
			wg.Wait()
			if err := a.Remove(t.Context(), "c", true, false); err != nil {
				t.Errorf("remove: %v", err)
			}
			<-a.Done()
		})
	}
}
