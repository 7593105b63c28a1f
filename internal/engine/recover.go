package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/moby/moby/api/types/mount"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/ids"
	"lade/internal/supervisor/wire"
)

// New makes the engine of its parts and brings what was asked (the records)
// and what is (the processes) together. This is the ordinary start: there is
// no other after a crash. Containers whose policy wants it are started again
// by Resume.
func New(ctx context.Context, c Config) (*Engine, error) {
	e := &Engine{
		Config: c, log: c.Logger, volumes: c.Volumes, containers: newIndex(), execs: newExecs(), filters: newFilterCache(),
		started: time.Now(),
	}
	e.sup = &link{connect: c.Connect, handler: e, log: c.Logger, held: map[string]*hold{}, ready: make(chan struct{})}
	e.ctx, e.cancel = context.WithCancel(context.WithoutCancel(ctx))
	var err error
	if e.id, err = engineID(ctx, c.Store, ids.New()); err != nil {
		return nil, err
	}
	records, err := e.records()
	if err != nil {
		return nil, err
	}
	welcome, err := e.sup.open(ctx)
	if err != nil {
		return nil, err
	}
	live := map[string]bool{}
	found := e.observe(ctx, records, welcome)
	for _, r := range records {
		if r.State.Alive() {
			live[r.ID] = true
		}
	}
	if err := e.Networks.Restore(ctx, live); err != nil {
		return nil, err
	}
	for _, r := range records {
		e.containers.add(container.New(e.ctx, *r, e, e.log))
	}
	for _, w := range found {
		e.sup.forget(ctx, w.ID, w.ExecID)
	}
	return e, e.sweep(ctx, records)
}

// records reads the containers. A damaged record is reported and left alone;
// the others are served.
func (e *Engine) records() ([]*container.Record, error) {
	var out []*container.Record
	for id, raw := range e.Store.Walk(bucket) {
		r, err := container.Decode(raw)
		if err != nil {
			e.log.Error("a container cannot be shown", "container", id, "error", err)
			continue
		}
		if _, err := e.containers.reserve(r.Name, r.ID); err != nil {
			e.log.Error("a container lost its name", "container", id, "name", r.Name, "error", err)
			if r.Name, err = e.containers.reserve("", r.ID); err != nil {
				return nil, err
			}
		}
		for _, m := range r.Mounts {
			if m.Type == mount.TypeVolume {
				if err := e.volumes.Use(m.Name, r.ID); err != nil {
					e.log.Warn("a container's volume is gone", "container", id, "volume", m.Name)
				}
			}
		}
		out = append(out, r)
	}
	return out, nil
}

// observe corrects the records by what the supervisor sees, and kills what has
// no record. It returns the exits that are recorded now.
func (e *Engine) observe(ctx context.Context, records []*container.Record, w wire.Welcome) []wire.Exited {
	alive, ended := map[string]wire.Live{}, map[string]wire.Exited{}
	for _, l := range w.Containers {
		if l.ExecID == "" {
			alive[l.ID] = l
		}
	}
	for _, x := range w.Exits {
		if x.ExecID == "" {
			ended[x.ID] = x
		}
	}
	for _, r := range records {
		l, running := alive[r.ID]
		delete(alive, r.ID)
		x, exited := ended[r.ID]
		switch {
		case running:
			r.State, r.Pid, r.StartedAt, r.OOMKilled = container.Running, l.Pid, l.StartedAt, l.OOM
			if l.Frozen {
				r.State = container.Paused
			}
			continue
		case exited && (r.State.Alive() || x.At.After(r.FinishedAt)):
			r.ExitCode, r.FinishedAt, r.OOMKilled = x.Code, x.At, x.OOM
		case r.State.Alive():
			r.ExitCode, r.FinishedAt, r.Error = 255, time.Now().UTC(), "the container ended while no supervisor watched it"
		default:
			continue
		}
		r.Pid = 0
		r.State = container.Exited
		if err := e.Save(ctx, r, false); err != nil {
			e.log.Error("an exit could not be recorded", "container", r.ID, "error", err)
		}
	}
	for id := range alive {
		e.log.Warn("a container without a record is killed", "container", id)
		if err := e.Signal(ctx, id, int(killSignal), true); err != nil {
			e.log.Error("kill failed", "container", id, "error", err)
		}
	}
	return w.Exits
}

// killSignal is SIGKILL.
const killSignal = 9

// sweep deletes what no record names: directories, snapshots and image
// objects that a crash left behind.
func (e *Engine) sweep(ctx context.Context, records []*container.Record) error {
	known := map[string]bool{}
	for _, r := range records {
		known[r.ID] = true
	}
	dir := filepath.Join(e.Root, "containers")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, d := range entries {
		if !known[d.Name()] {
			if err := os.RemoveAll(filepath.Join(dir, d.Name())); err != nil {
				return err
			}
		}
	}
	freed, err := e.Images.Collect(ctx, func(key string) bool { return !known[key] })
	if err != nil {
		return err
	}
	e.log.Debug("swept", "freed", freed)
	return nil
}

// Resume starts the containers that their policy wants to run, and removes
// those that were to remove themselves. It does not wait for them.
func (e *Engine) Resume() {
	all := e.containers.all()
	slices.Reverse(all) // oldest first
	for _, a := range all {
		switch r := a.View(); {
		case r.State == container.Dead || r.State == container.Exited && r.HostConfig.AutoRemove:
			e.work.Go(func() {
				if err := a.Remove(e.ctx, r.ID, false, true); err != nil && errdefs.KindOf(err) != errdefs.Unavailable {
					e.log.Warn("automatic removal failed", "container", r.ID, "error", err)
				}
			})
		default:
			a.Resume()
		}
	}
}

// Exited implements supervisor.Handler.
func (e *Engine) Exited(w wire.Exited) {
	e.work.Go(func() {
		if w.ExecID != "" {
			e.execEnded(w)
			return
		}
		a, err := e.containers.find(w.ID)
		if err == nil && !a.Exited(container.Exit{Code: w.Code, OOM: w.OOM, At: w.At.UTC()}) && e.ctx.Err() != nil {
			return // it is told again to the next engine
		}
		e.sup.forget(e.ctx, w.ID, "")
	})
}

// OOM implements supervisor.Handler.
func (e *Engine) OOM(id string) {
	if a, err := e.containers.find(id); err == nil {
		e.work.Go(a.OOM)
	}
}

// Lost implements supervisor.Handler: the supervisor is gone, its containers
// are not.
func (e *Engine) Lost(err error) {
	if e.ctx.Err() != nil {
		return
	}
	e.log.Error("the supervisor is gone; another one takes over", "error", err)
	e.work.Go(func() {
		var once sync.Once
		for delay := 100 * time.Millisecond; ; delay = min(2*delay, 5*time.Second) {
			err := e.sup.replace(e.ctx, e.lostContainer)
			if err == nil {
				return
			}
			once.Do(func() { e.log.Error("no supervisor could be started", "error", err) })
			t := time.NewTimer(delay)
			select {
			case <-t.C:
			case <-e.ctx.Done():
				t.Stop()
				return
			}
		}
	})
}

// lostContainer records the end of a container that no supervisor could take
// over: its process is gone, or will be.
func (e *Engine) lostContainer(id string, err error) {
	e.log.Warn("a container could not be handed to the new supervisor", "container", id, "error", err)
	if a, findErr := e.containers.find(id); findErr == nil {
		a.Exited(container.Exit{Code: -1, At: time.Now().UTC()})
	}
}
