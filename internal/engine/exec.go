package engine

import (
	"cmp"
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"lade/internal/engine/container"
	"lade/internal/engine/spec"
	"lade/internal/errdefs"
	"lade/internal/ids"
	"lade/internal/linux/passwd"
	"lade/internal/linux/rootpath"
	"lade/internal/supervisor/wire"
)

// execKeep is how many ended execs of a container can still be inspected.
const execKeep = 32

// execution is an additional process of a container. It is not persisted: an
// exec ends with its container, and what is asked of it later is only how it
// ended.
type execution struct {
	id        string
	container *container.Actor
	request   apicontainer.ExecCreateRequest
	keys      []byte
	ended     chan struct{} // closed at its end, of which nobody asks later; nil: an exec of a client's
	ready     chan struct{} // closed when its process runs, or has ended
	keep      int           // as wire.Exec.Keep

	// guarded by execs.mu
	started, running bool
	pid              int
	code             *int
	output           []byte // of keep
	more             bool
}

// execs are the additional processes of all containers.
type execs struct {
	mu   sync.Mutex
	byID map[string]*execution
	of   map[string][]string // container id → exec ids, oldest first
}

func newExecs() *execs { return &execs{byID: map[string]*execution{}, of: map[string][]string{}} }

func (x *execs) add(e *execution) {
	x.mu.Lock()
	defer x.mu.Unlock()
	id := e.container.View().ID
	e.ready = make(chan struct{})
	if e.started { // found again
		e.beReady()
	}
	x.byID[e.id] = e
	list := append(x.of[id], e.id)
	for i := 0; len(list) > execKeep && i < len(list); {
		if old := x.byID[list[i]]; old.started && !old.running {
			delete(x.byID, list[i])
			list = append(list[:i:i], list[i+1:]...)
			continue
		}
		i++
	}
	x.of[id] = list
}

func (x *execs) find(id string) (*execution, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.byID[id]; e != nil {
		return e, nil
	}
	return nil, errdefs.NotFoundf("No such exec instance: %s", id)
}

// forget drops the execs of a removed container.
func (x *execs) forget(id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range x.of[id] {
		delete(x.byID, e)
	}
	delete(x.of, id)
}

// drop forgets an exec of which nobody asks any more.
func (x *execs) drop(e *execution) {
	x.mu.Lock()
	defer x.mu.Unlock()
	id := e.container.View().ID
	delete(x.byID, e.id)
	if x.of[id] = slices.DeleteFunc(x.of[id], func(other string) bool { return other == e.id }); len(x.of[id]) == 0 {
		delete(x.of, id)
	}
}

// alive returns the ids of the execs that run in a container, or are to.
func (x *execs) alive(id string) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []string
	for _, e := range x.of[id] {
		if x.byID[e].running || !x.byID[e].started {
			out = append(out, e)
		}
	}
	return out
}

// ended notes how an exec ended, and returns it; nil if it is unknown.
func (x *execs) ended(id string, code int) *execution {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.byID[id]
	if e == nil {
		return nil
	}
	e.running, e.started, e.pid = false, true, 0
	e.beReady()
	if e.ended != nil && e.code == nil {
		close(e.ended)
	}
	e.code = &code
	return e
}

// said notes what an exec has printed, before it is ended.
func (x *execs) said(w wire.Exited) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.byID[w.ExecID]; e != nil {
		e.output, e.more = w.Output, w.More
	}
}

// lost returns the execs that run, but are not among the known processes.
func (x *execs) lost(known map[process]bool) []process {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []process
	for id, e := range x.byID {
		if k := (process{e.container.View().ID, id}); e.running && e.pid != 0 && !known[k] {
			out = append(out, k)
		}
	}
	return out
}

// begin takes the right to start an exec, once.
func (x *execs) begin(e *execution) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e.started {
		if e.running {
			return errdefs.Conflictf("exec instance %s is already running", e.id)
		}
		return errdefs.Conflictf("exec instance %s has already run", e.id)
	}
	e.started, e.running = true, true
	return nil
}

// set notes the process of an exec; it reports whether that still runs.
func (x *execs) set(e *execution, pid int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e.running {
		e.pid = pid
		e.beReady()
	}
	return e.running
}

// beReady lets those go on who wait for the process; execs.mu is held.
func (e *execution) beReady() {
	select {
	case <-e.ready:
	default:
		close(e.ready)
	}
}

// usable answers Conflict, in Docker's words, for a container that cannot run
// an exec.
func usable(r *container.Record) error {
	switch r.State {
	case container.Running:
		return nil
	case container.Paused:
		return errdefs.Conflictf("Container %s is paused, unpause the container before exec", r.Name)
	case container.Restarting:
		return errdefs.Conflictf("Container %s is restarting, wait until the container is running", r.ID)
	}
	return errdefs.Conflictf("container %s is not running", r.ID)
}

// ExecCreate prepares an additional process. Errors: NotFound, Conflict if the
// container does not run, Invalid for an empty command or bad detach keys,
// or a user that the container does not know.
func (e *Engine) ExecCreate(_ context.Context, name string, r apicontainer.ExecCreateRequest) (string, error) {
	a, err := e.containers.find(name)
	if err != nil {
		return "", err
	}
	if len(r.Cmd) == 0 {
		return "", errdefs.Invalidf("No exec command specified")
	}
	if err := usable(a.View()); err != nil {
		return "", err
	}
	keys, err := detachKeys(r.DetachKeys)
	if err != nil {
		return "", err
	}
	if r.User != "" {
		if err := e.userExists(a.View(), r.User); err != nil {
			return "", err
		}
	}
	x := &execution{id: ids.New(), container: a, request: r, keys: keys}
	e.execs.add(x)
	e.Publish(a.View(), events.ActionExecCreate+": "+events.Action(strings.Join(r.Cmd, " ")), map[string]string{"execID": x.id})
	return x.id, nil
}

// userExists answers Invalid for a user that a running container does not know.
// It is asked for again when the process starts: a container changes its files.
func (e *Engine) userExists(r *container.Record, user string) error {
	other, err := e.runtime(r)
	if err != nil {
		return err
	}
	root, _, err := e.LiveRoot(r)
	if root == nil || err != nil {
		return err // it has ended: starting says so
	}
	defer root.Close()
	read := func(path string) ([]byte, error) { return rootpath.ReadFile(int(root.Fd()), path, passwd.Limit) }
	_, err = passwd.Resolve(user, nil, read)
	if err != nil && other != nil {
		// Its containers may have a root that is not their process's: gVisor's.
		if _, hidden := read("/etc/passwd"); hidden != nil {
			return nil
		}
	}
	return err
}

// ExecStart starts it, attached unless o.Detach. It returns when the process
// runs; the stream was handed to the supervisor then. Errors: NotFound,
// Conflict if it was started before or the container does not run, Invalid if
// the command cannot be executed.
func (e *Engine) ExecStart(ctx context.Context, id string, o ExecStartOptions) error {
	x, err := e.execs.find(id)
	if err != nil {
		return err
	}
	r := x.container.View()
	if err := usable(r); err != nil {
		return err
	}
	if err := e.execs.begin(x); err != nil {
		return err
	}
	err = e.execStart(ctx, x, r, o)
	if err != nil {
		code := 126
		if se, ok := asStartError(err); ok {
			code = se.Code
		}
		e.execs.ended(x.id, code)
	}
	return err
}

func (e *Engine) execStart(ctx context.Context, x *execution, r *container.Record, o ExecStartOptions) error {
	q := x.request
	size := q.ConsoleSize
	if o.ConsoleSize != nil {
		size = o.ConsoleSize
	}
	process, filter, err := e.execProcess(r, q, size)
	if err != nil {
		return err
	}
	w := &wire.Exec{ID: r.ID, ExecID: x.id, Once: x.ended != nil, Keep: x.keep, Process: process, User: q.User, GroupAdd: r.HostConfig.GroupAdd, FilterFlags: filter.flags, Listener: filter.listener}
	if w.User == "" {
		w.User = r.Config.User
	}
	if x.keep > 0 {
		w.Stdio = wire.Stdio{Stdout: true, Stderr: true}
	}
	var conn Conn
	if !o.Detach {
		w.Stdio = wire.Stdio{Stdin: q.AttachStdin, StdinOnce: true, Stdout: q.AttachStdout, Stderr: q.AttachStderr}
		if conn, err = o.Hijack(o.Tty); err != nil {
			return err
		}
		defer conn.File.Close()
		attach := wireAttach(container.Stream{
			Early: conn.Early, Stdin: q.AttachStdin, Stdout: q.AttachStdout, Stderr: q.AttachStderr && !q.Tty && !o.Tty, DetachKeys: x.keys,
		}, 1)
		// What the client reads is as it says here, whatever the process has.
		attach.Raw, attach.Framed = o.Tty, q.Tty && !o.Tty
		w.Attach = []wire.Attach{attach}
	}
	if q.Privileged {
		if err := e.Networks.Share(r.ID); err != nil && errdefs.KindOf(err) != errdefs.NotFound { // it has the rights to change it
			return err
		}
	}
	e.Publish(r, events.ActionExecStart+": "+events.Action(strings.Join(q.Cmd, " ")), map[string]string{"execID": x.id})
	var fds []*os.File
	if conn.File != nil {
		fds = append(fds, conn.File)
	}
	got, err := e.sup.exec(ctx, w, filter.code, fds...)
	if err != nil {
		return startError(err, "OCI runtime exec failed: exec failed: unable to start container process: ")
	}
	if !e.execs.set(x, got.Pid) {
		e.sup.drop(r.ID, x.id) // it has ended already
	}
	return nil
}

// execEnded notes the end of an exec that the supervisor told of.
func (e *host) execEnded(w wire.Exited) {
	e.execs.said(w)
	x := e.execs.ended(w.ExecID, w.Code)
	e.sup.drop(w.ID, w.ExecID)
	if x != nil {
		e.Publish(x.container.View(), events.ActionExecDie, map[string]string{"execID": x.id, "exitCode": strconv.Itoa(w.Code)})
	}
	if x == nil || x.ended == nil { // else the supervisor has not kept it
		e.sup.forget(e.ctx, w.ID, w.ExecID)
	}
}

// execPatience is how long a terminal's size waits for its process, as in Docker.
const execPatience = 10 * time.Second

// ExecResize sets the size of its terminal. A client has a connection before
// the process runs, and tells the size at once: ExecResize waits for the process.
func (e *Engine) ExecResize(ctx context.Context, id string, height, width uint16) error {
	x, err := e.execs.find(id)
	if err != nil {
		return err
	}
	if r := x.container.View(); !r.State.Alive() {
		return errdefs.Conflictf("container %s is not running", r.ID)
	}
	late := time.NewTimer(execPatience)
	defer late.Stop()
	select {
	case <-x.ready:
	case <-late.C:
		return errdefs.Internalf("timeout waiting for exec session ready")
	case <-ctx.Done():
		return ctx.Err()
	}
	return e.sup.resize(ctx, x.container.View().ID, x.id, height, width)
}

// ExecInspect returns what is known of it.
func (e *Engine) ExecInspect(_ context.Context, id string) (*apicontainer.ExecInspectResponse, error) {
	x, err := e.execs.find(id)
	if err != nil {
		return nil, err
	}
	q := x.request
	e.execs.mu.Lock()
	defer e.execs.mu.Unlock()
	p := &apicontainer.ExecProcessConfig{Tty: q.Tty, User: cmp.Or(q.User, x.container.View().Config.User), Privileged: &q.Privileged}
	if len(q.Cmd) > 0 { // not known of one that outlived the engine that started it
		p.Entrypoint, p.Arguments = q.Cmd[0], q.Cmd[1:]
	}
	return &apicontainer.ExecInspectResponse{
		ID: x.id, Running: x.running, ExitCode: x.code, ProcessConfig: p, OpenStdin: q.AttachStdin,
		OpenStdout: q.AttachStdout, OpenStderr: q.AttachStderr, ContainerID: x.container.View().ID, DetachKeys: x.keys, Pid: x.pid,
	}, nil
}

// specExec is what spec needs to know of an exec.
func specExec(q apicontainer.ExecCreateRequest) spec.ExecInput {
	return spec.ExecInput{Cmd: q.Cmd, Env: q.Env, Tty: q.Tty, WorkingDir: q.WorkingDir, Privileged: q.Privileged}
}
