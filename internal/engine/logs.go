package engine

import (
	"context"
	"path/filepath"
	"strings"

	"lade/internal/engine/container"
	"lade/internal/engine/logdriver"
	"lade/internal/errdefs"
	"lade/internal/logs"
	"lade/internal/store"
	"lade/internal/supervisor/wire"
)

// logFile returns the file where a container's output is kept, and its form; ok
// is false if it is not kept.
func (e *host) logFile(r *container.Record) (path string, form logs.Format, ok bool) {
	name, form, ok := logdriver.File(r.HostConfig.LogConfig, r.ID)
	return filepath.Join(e.dir(r.ID), name), form, ok
}

// logOf says what the supervisor does with a container's output. Errors: as
// logdriver.Log.
func (e *host) logOf(ctx context.Context, r *container.Record) (wire.Log, error) {
	l, err := logdriver.Log(ctx, r.HostConfig.LogConfig, logdriver.Info{
		ID: r.ID, Name: r.Name, ImageID: r.ImageID, ImageName: r.Config.Image, Command: commandLine(r), Created: r.Created,
		Env: r.Config.Env, Labels: r.Config.Labels,
	}, e.dir(r.ID))
	if err == nil && l.Target != nil && l.Target.TLS != nil {
		l.Target.Relay = e.LogRelay()
	}
	return l, err
}

// ContainerLogs reads a container's output back. Errors: NotFound, Invalid if
// its log driver keeps nothing.
func (e *Engine) ContainerLogs(ctx context.Context, name string, o LogsOptions) (LogStream, error) {
	a, err := e.containers.find(name)
	if err != nil {
		return LogStream{}, err
	}
	r := a.View()
	if !o.Stdout && !o.Stderr {
		return LogStream{}, errdefs.Invalidf("You must choose at least one stream")
	}
	path, form, ok := e.logFile(r)
	if !ok {
		return LogStream{}, errdefs.NotImplementedf("configured logging driver does not support reading")
	}
	done := make(chan struct{})
	follow := o.Follow && (r.State.Alive() || r.State == container.Restarting || r.State == container.Starting)
	if follow {
		exited, err := a.Wait(ctx, "")
		if err != nil {
			return LogStream{}, err
		}
		e.work.Go(func() {
			defer close(done)
			select {
			case <-exited:
			case <-ctx.Done():
			case <-e.ctx.Done():
			}
		})
	}
	read := logs.Open(path, logs.ReadOptions{Format: form, Since: o.Since, Until: o.Until, Tail: o.Tail, Follow: follow, Done: done})
	return LogStream{Tty: r.Config.Tty, Messages: func(yield func(logs.Message, error) bool) {
		for m, err := range read {
			if err == nil && (m.Stream == logs.Stdout && !o.Stdout || m.Stream == logs.Stderr && !o.Stderr) {
				continue
			}
			if !yield(m, err) || ctx.Err() != nil {
				return
			}
		}
	}}, nil
}

// ContainerLogsClear removes what is kept of a container's output, of all
// rotated files. Who follows it goes on with what comes, and what waits to be
// sent elsewhere is sent. Errors: NotFound, NotImplemented if nothing is kept.
func (e *Engine) ContainerLogsClear(ctx context.Context, name string) error {
	a, err := e.containers.find(name)
	if err != nil {
		return err
	}
	r := a.View()
	path, _, ok := e.logFile(r)
	if !ok {
		return errdefs.NotImplementedf("configured logging driver does not support reading")
	}
	return e.sup.clearLog(ctx, r.ID, path)
}

// LogAtRest returns the file where the output of a container is kept whose
// engine does not run, and the file's form. root is the engine's data root; the
// container is named as to Find. Errors: NotFound, Invalid for an ambiguous
// prefix, NotImplemented if nothing is kept.
func LogAtRest(records *store.Store, root, name string) (path string, form logs.Format, err error) {
	var found *container.Record
	prefixes := 0
	for id, raw := range records.Walk(bucket) {
		r, err := container.Decode(raw)
		if err != nil || !strings.HasPrefix(id, name) && r.Name != name {
			continue
		}
		found = r
		if prefixes++; r.Name == name || id == name {
			prefixes = 1
			break
		}
	}
	if prefixes > 1 {
		return "", form, errdefs.Invalidf("Multiple IDs found with provided prefix: %s", name)
	}
	if found == nil {
		return "", form, errdefs.NotFoundf("No such container: %s", name)
	}
	file, form, ok := logdriver.File(found.HostConfig.LogConfig, found.ID)
	if !ok {
		return "", form, errdefs.NotImplementedf("configured logging driver does not support reading")
	}
	return filepath.Join(root, "containers", found.ID, file), form, nil
}
