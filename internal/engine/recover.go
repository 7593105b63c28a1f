package engine

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/ids"
	"lade/internal/linux/atomicfile"
	"lade/internal/supervisor"
	"lade/internal/supervisor/wire"
)

// recovery brings the engine and its supervisor together, at the start and
// when a lost supervisor was replaced, and hears what the supervisor tells. It
// implements supervisor.Handler.
type recovery struct {
	*host
	recovered chan struct{} // closed when every container can be found
	// damaged are the containers whose records cannot be read. What they have is left
	// alone, running or not: another version may read them, or somebody mend them.
	// Written before the first session.
	damaged map[string]bool
}

var _ supervisor.Handler = (*recovery)(nil)

// New makes the engine of its parts and brings what was asked (the records)
// and what is (the processes) together. This is the ordinary start: there is
// no other after a crash. Containers whose policy wants it are started again
// by Resume.
func New(ctx context.Context, c Config) (*Engine, error) {
	e := assemble(newHost(ctx, c))
	back := &recovery{host: e.host, recovered: make(chan struct{}), damaged: map[string]bool{}}
	e.sup = newLink(e.ctx, c.Connect, back, c.Logger)
	var err error
	if err := e.events.Keep(filepath.Join(c.Root, "events")); err != nil {
		e.log.Warn("events are not kept", "error", err)
	}
	if e.ranges, err = newIDRanges(c.Settings.Defaults.UsernsRemap); err != nil {
		return nil, err
	}
	if e.id, err = engineID(ctx, c.Store, ids.New()); err != nil {
		return nil, err
	}
	if err := e.keepSeccomp(); err != nil {
		return nil, err
	}
	e.builder = e.newBuilder()
	if err := e.builder.Recover(ctx); err != nil {
		e.log.Warn("what an earlier builder has left could not be removed", "error", err)
	}
	rebooted, err := machineRestarted(c.Store)
	if err != nil {
		return nil, err
	}
	records, err := back.records()
	if err != nil {
		return nil, err
	}
	session, welcome, err := e.sup.open(ctx)
	if err != nil {
		return nil, err
	}
	if err := back.observe(ctx, session.client, welcome, records, rebooted); err != nil {
		return nil, errors.Join(err, session.client.Close())
	}
	if err := e.RecoverMounts(records); err != nil {
		return nil, errors.Join(err, session.client.Close())
	}
	live := map[string]bool{}
	for _, r := range records {
		live[r.ID] = r.State.Alive()
	}
	for id := range back.damaged {
		live[id] = true
	}
	if err := e.Networks.Restore(ctx, live); err != nil {
		return nil, errors.Join(err, session.client.Close())
	}
	for _, r := range records {
		e.ranges.note(r)
		e.levels.Hold(levelOf(r))
		if len(r.HostConfig.Links) > 0 {
			e.linked.Store(true)
		}
		e.containers.add(container.New(e.ctx, *r, e.host, e.log))
		if err := e.Networks.Rename(r.ID, r.Name); err != nil { // cut off in the middle of a rename
			e.log.Warn("the network shows an old name", "container", r.ID, "error", err)
		}
	}
	back.recoverExecs(ctx, session.client, welcome)
	e.sup.up(session)
	e.sup.keep(back.tell)
	e.work.Go(e.names.run)
	e.Networks.OnChange(e.names.changed)
	e.Networks.Visits(e.visitNetwork)
	e.names.refresh()
	for _, x := range welcome.Exits {
		e.sup.forget(ctx, x.ID, x.ExecID)
	}
	close(back.recovered)
	for _, a := range e.containers.all() {
		e.rewatch(a.View())
	}
	return e, back.sweep(ctx, records)
}

// records reads the containers. A damaged record is reported and left alone;
// the others are served.
func (e *recovery) records() ([]*container.Record, error) {
	var out []*container.Record
	for id, raw := range e.Store.Walk(bucket) {
		r, err := container.Decode(raw)
		if err != nil {
			e.log.Error("a container cannot be shown; what it has stays as it is", "container", id, "error", err)
			e.damaged[id] = true
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
		if err := e.secrets.Hold(r.ID, r.Secrets); err != nil {
			e.log.Warn("a container's secret or config is gone", "container", id, "error", err)
		}
		out = append(out, r)
	}
	return out, nil
}

// observe corrects the records by what the supervisor sees, takes duplicates
// of what it holds, and ends what has no record. rebooted says that nothing can
// run because the machine was restarted. Errors: of the supervisor.
func (e *recovery) observe(ctx context.Context, c *supervisor.Client, w wire.Welcome, records []*container.Record, rebooted bool) error {
	alive, ended, stray := map[string]wire.Live{}, map[string]wire.Exited{}, map[string]string{}
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
	for _, g := range w.Groups {
		stray[g.ID] = g.Cgroup
	}
	for _, r := range records {
		l, running := alive[r.ID]
		x, exited := ended[r.ID]
		group, left := stray[r.ID]
		if !running && !exited && left {
			var err error
			if l, running, err = e.adopt(ctx, c, r, group); err != nil {
				return err
			}
		} else if running {
			e.duplicate(ctx, c, e.adoption(r, l))
		}
		switch {
		case running:
			delete(alive, r.ID)
			delete(stray, r.ID)
			r.State, r.Pid, r.StartedAt, r.OOMKilled = container.Running, l.Pid, l.StartedAt, l.OOM
			r.Clock()
			if l.Frozen {
				r.State = container.Paused
			}
			continue
		case exited && (r.State.Alive() || !x.At.Equal(r.FinishedAt)): // else it is told again
			r.Ended(container.Exit{Code: x.Code, OOM: x.OOM, At: x.At.UTC()})
		case r.State.Alive():
			r.Ended(container.Exit{Code: -1, At: time.Now().UTC()})
			if rebooted {
				r.Rebooted()
			}
		default:
			continue
		}
		if err := e.Save(ctx, r, false); err != nil {
			return err
		}
		if exited && x.OOM {
			e.Publish(r, events.ActionOOM, nil)
		}
		e.Publish(r, events.ActionDie, r.DieAttributes())
	}
	for id := range alive {
		if e.damaged[id] {
			delete(stray, id)
			continue
		}
		e.log.Warn("a container without a record is killed", "container", id)
		err := c.Signal(ctx, &wire.Signal{ID: id, Signal: killSignal, All: true})
		if err != nil && errdefs.KindOf(err) != errdefs.NotFound {
			return err
		}
	}
	for id, group := range stray {
		if e.damaged[id] {
			continue
		}
		e.clear(ctx, c, id, group)
	}
	return nil
}

// recoverExecs makes the execs that outlived the last engine findable, so that
// their clients learn how they end.
func (e *recovery) recoverExecs(ctx context.Context, c *supervisor.Client, w wire.Welcome) {
	for _, l := range w.Containers {
		a, err := e.containers.find(l.ID)
		if err != nil || l.ExecID == "" {
			continue
		}
		e.execs.add(&execution{id: l.ExecID, container: a, started: true, running: true, pid: l.Pid})
		e.duplicate(ctx, c, wire.Adopt{ID: l.ID, ExecID: l.ExecID, Pid: l.Pid, StartedAt: l.StartedAt})
	}
	for _, x := range w.Exits {
		if a, err := e.containers.find(x.ID); err == nil && x.ExecID != "" {
			e.execs.add(&execution{id: x.ExecID, container: a, started: true, code: &x.Code})
		}
	}
}

// tell brings a new supervisor and the engine together after the old one was
// lost: it gets what is held, and what it could not get has ended. Errors: of
// the supervisor, if it is lost, too.
func (e *recovery) tell(ctx context.Context, c *supervisor.Client, w wire.Welcome) error {
	known, ended := map[process]bool{}, map[process]bool{} // to the new supervisor
	for _, l := range w.Containers {
		known[process{l.ID, l.ExecID}] = true
	}
	for _, x := range w.Exits {
		known[process{x.ID, x.ExecID}], ended[process{x.ID, x.ExecID}] = true, true
	}
	for _, h := range e.sup.holds() {
		k := process{h.adopt.ID, h.adopt.ExecID}
		if known[k] {
			continue
		}
		a, err := e.containers.find(k.id)
		if err != nil {
			continue // it was removed, so it had ended
		}
		err = h.handOver(ctx, c, a.View().State == container.Paused)
		if errdefs.KindOf(err) == errdefs.Unavailable {
			return err
		}
		known[k] = err == nil
		if err != nil {
			e.log.Warn("a process could not be handed to the new supervisor", "container", k.id, "exec", k.exec, "error", err)
			if k.exec == "" {
				e.lost(a, h.adopt.Pid)
			}
		}
	}
	for _, g := range w.Groups {
		k := process{g.ID, ""}
		if known[k] && !ended[k] || e.damaged[g.ID] { // adopted just now, or not ours to judge
			continue
		}
		if a, err := e.containers.find(g.ID); err == nil && a.View().State.Alive() && !ended[k] {
			_, running, err := e.adopt(ctx, c, a.View(), g.Cgroup)
			if err != nil {
				return err
			}
			if known[k] = running; running {
				continue
			}
		}
		e.clear(ctx, c, g.ID, g.Cgroup)
	}
	for _, a := range e.containers.all() {
		if r := a.View(); r.State.Alive() && !known[process{r.ID, ""}] {
			e.lost(a, r.Pid)
		}
	}
	for _, x := range e.execs.lost(known) {
		e.execEnded(wire.Exited{ID: x.id, ExecID: x.exec, Code: 255})
	}
	for _, x := range w.Exits {
		e.Exited(x)
	}
	e.names.refresh() // once it may be used
	return nil
}

// lost records the end of a container of which no supervisor knows.
func (e *recovery) lost(a *container.Actor, pid int) {
	e.work.Go(func() { a.Exited(container.Exit{Code: -1, Pid: pid, At: time.Now().UTC()}) })
}

// killSignal is SIGKILL.
const killSignal = 9

// sweep deletes what no record names: directories, snapshots and image
// objects that a crash left behind, and files half written. It makes the
// directories that a record names and a power cut has taken.
func (e *recovery) sweep(ctx context.Context, records []*container.Record) error {
	if err := atomicfile.RemoveTemporary(e.Root); err != nil { // of a key of secrets
		return err
	}
	if err := e.sweepSeccomp(records); err != nil {
		return err
	}
	known, missing := maps.Clone(e.damaged), map[string]bool{}
	for _, r := range records {
		known[r.ID], missing[r.ID] = true, true
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
	for _, d := range entries {
		delete(missing, d.Name())
	}
	for id := range missing { // a power cut has taken it: only the record was synced
		if err := e.makeDir(id); err != nil {
			return err
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
	e.work.Go(func() { e.Collector.Run(e.ctx) })
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
func (e *recovery) Exited(w wire.Exited) {
	e.work.Go(func() {
		select {
		case <-e.recovered:
		case <-e.ctx.Done():
			return // it is told again to the next engine
		}
		if w.ExecID != "" {
			e.execEnded(w)
			return
		}
		a, err := e.containers.find(w.ID)
		if err == nil && !a.Exited(container.Exit{Code: w.Code, Pid: w.Pid, OOM: w.OOM, At: w.At.UTC()}) && e.ctx.Err() != nil {
			return // as above
		}
		e.sup.forget(e.ctx, w.ID, "")
	})
}

// OOM implements supervisor.Handler.
func (e *recovery) OOM(id string) {
	e.work.Go(func() {
		select {
		case <-e.recovered:
		case <-e.ctx.Done():
			return
		}
		if a, err := e.containers.find(id); err == nil {
			a.OOM()
		}
	})
}

// Lost implements supervisor.Handler; the link takes care of it.
func (e *recovery) Lost(error) {}
