package engine

import (
	"context"
	"errors"
	"strings"
	"sync"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
)

// Labels by which Compose says what a container is and what it depends on:
// "service:condition:restart", with commas between.
const (
	composeProject = "com.docker.compose.project"
	composeService = "com.docker.compose.service"
	composeDepends = "com.docker.compose.depends_on"
)

// SystemShutdown stops every container, those first on which no other depends:
// because it lives in the other's namespaces, or Compose said so. It is the end
// of the machine or the engine, and not of the containers: the next engine starts
// those again whose restart policy wants it. It returns the ids of those that it
// has stopped. A container that cannot be stopped does not keep it from the
// others; its error is in what is returned.
func (e *Engine) SystemShutdown(ctx context.Context, o StopOptions) (stopped []string, err error) {
	var mu sync.Mutex
	for _, wave := range e.stopOrder() {
		var work sync.WaitGroup
		for _, a := range wave {
			work.Go(func() {
				failed := e.halt(ctx, a, o)
				mu.Lock()
				defer mu.Unlock()
				switch errdefs.KindOf(failed) {
				case errdefs.NotModified, errdefs.NotFound:
					return // it has ended by itself
				}
				if failed != nil {
					err = errors.Join(err, failed)
					return
				}
				stopped = append(stopped, a.View().ID)
			})
		}
		work.Wait()
	}
	return stopped, err
}

// stopOrder returns the running containers, in waves: none depends on one of an
// earlier wave. What depends on itself by a circle comes last.
func (e *Engine) stopOrder() (waves [][]*container.Actor) {
	left := map[string]*container.Actor{}
	services := map[[2]string][]string{} // project and service → ids
	for _, a := range e.containers.all() {
		if r := a.View(); r.State.Alive() || r.Returning() {
			left[r.ID] = a
			key := [2]string{r.Config.Labels[composeProject], r.Config.Labels[composeService]}
			services[key] = append(services[key], r.ID)
		}
	}
	for len(left) > 0 {
		needed := map[string]bool{}
		for _, a := range left {
			for _, id := range e.dependsOn(a.View(), services) {
				needed[id] = true
			}
		}
		var wave []*container.Actor
		for id, a := range left {
			if !needed[id] {
				wave = append(wave, a)
			}
		}
		if len(wave) == 0 { // a circle
			for _, a := range left {
				wave = append(wave, a)
			}
		}
		for _, a := range wave {
			delete(left, a.View().ID)
		}
		waves = append(waves, wave)
	}
	return waves
}

// dependsOn returns the ids of the containers that one needs to run.
func (e *Engine) dependsOn(r *container.Record, services map[[2]string][]string) (out []string) {
	hc := r.HostConfig
	for _, mode := range []string{string(hc.NetworkMode), string(hc.IpcMode), string(hc.PidMode)} {
		if name, ok := strings.CutPrefix(mode, "container:"); ok {
			if a, err := e.containers.find(name); err == nil {
				out = append(out, a.View().ID)
			}
		}
	}
	depends := r.Config.Labels[composeDepends]
	if depends == "" {
		return out
	}
	for on := range strings.SplitSeq(depends, ",") {
		service, _, _ := strings.Cut(on, ":")
		out = append(out, services[[2]string{r.Config.Labels[composeProject], service}]...)
	}
	return out
}

// ShutdownResponse is the answer of SystemShutdown.
type ShutdownResponse struct {
	Stopped []string
}
