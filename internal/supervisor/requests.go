package supervisor

import (
	"context"
	"errors"
	"io"
	"os"

	"lade/internal/errdefs"
	"lade/internal/linux/idmap"
	"lade/internal/supervisor/wire"
)

// Start starts a container. The fields of type FD of m index files, which stay
// the caller's. Errors: *StartError where the command is to blame; Conflict if
// the container runs; NotFound if the filter is not known (see PutFilter).
func (c *Client) Start(ctx context.Context, m *wire.Start, files ...*os.File) (*Started, error) {
	return c.started(ctx, m, files)
}

// Exec starts a process in a running container. Errors: as of Start; NotFound
// if the container does not run.
func (c *Client) Exec(ctx context.Context, m *wire.Exec, files ...*os.File) (*Started, error) {
	return c.started(ctx, m, files)
}

// Adopt gives a running process to a supervisor that did not start it, with
// the descriptors of its Started. Errors: Conflict if it has the process.
func (c *Client) Adopt(ctx context.Context, m *wire.Adopt, files ...*os.File) (*Started, error) {
	return c.started(ctx, m, files)
}

// Duplicate returns the descriptors of a running process again, for a daemon
// that was restarted. Errors: NotFound.
func (c *Client) Duplicate(ctx context.Context, id, exec string) (*Started, error) {
	return c.started(ctx, &wire.Duplicate{ID: id, ExecID: exec}, nil)
}

// MakeUser makes a user namespace with a map, and with net a network namespace
// that belongs to it; without it the second is nil. The caller closes both.
// Errors: Invalid for the map, Unavailable when the host has no more.
func (c *Client) MakeUser(ctx context.Context, ids idmap.Map, net bool) (userNS, netNS *os.File, err error) {
	var w wire.MadeUser
	got, err := c.callFiles(ctx, &wire.MakeUser{IDs: ids, Net: net}, nil, wire.TypeMadeUser, &w)
	if err != nil {
		return nil, nil, err
	}
	if want := 1 + btoi(net); len(got) != want {
		for _, f := range got {
			f.Close()
		}
		return nil, nil, errdefs.Internalf("the supervisor answered with %d namespaces, want %d", len(got), want)
	}
	if net {
		return got[0], got[1], nil
	}
	return got[0], nil, nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (c *Client) started(ctx context.Context, m any, files []*os.File) (*Started, error) {
	var w wire.Started
	got, err := c.callFiles(ctx, m, files, wire.TypeStarted, &w)
	if err != nil {
		return nil, err
	}
	s := &Started{Pid: w.Pid, StartedAt: w.StartedAt, Prepare: w.Prepare, Program: w.Program}
	for _, t := range []struct {
		to   **os.File
		from wire.FD
	}{{&s.Pidfd, w.Pidfd}, {&s.Console, w.Console}, {&s.Stdin, w.Stdin}, {&s.Stdout, w.Stdout}, {&s.Stderr, w.Stderr}} {
		if t.from > 0 && int(t.from) <= len(got) {
			*t.to, got[t.from-1] = got[t.from-1], nil
		}
	}
	for _, f := range got {
		if f != nil {
			f.Close()
		}
	}
	return s, nil
}

// Attach connects a client's socket with a running process; m.Stream is set
// here. The socket stays the caller's, who may close it at once. Errors:
// NotFound if the process does not run.
func (c *Client) Attach(ctx context.Context, m *wire.Attach, stream *os.File) error {
	with := *m
	with.Stream = 1
	return c.simple(ctx, &with, stream)
}

// PutFilter gives a compiled seccomp filter to the supervisor. It is idempotent.
func (c *Client) PutFilter(ctx context.Context, m *wire.PutFilter) error { return c.simple(ctx, m) }

// Signal sends a signal. Errors: NotFound if the process does not run, Invalid
// for no signal.
func (c *Client) Signal(ctx context.Context, m *wire.Signal) error { return c.simple(ctx, m) }

// Resize sets the size of a process's terminal. Errors: NotFound; Conflict if
// it has none.
func (c *Client) Resize(ctx context.Context, m *wire.Resize) error { return c.simple(ctx, m) }

// Freeze stops every process of a container, or with m.Thaw continues them,
// and returns when the kernel says so. Errors: NotFound.
func (c *Client) Freeze(ctx context.Context, m *wire.Freeze) error { return c.simple(ctx, m) }

// Update changes a running container's limits. Errors: NotFound.
func (c *Client) Update(ctx context.Context, m *wire.Update) error { return c.simple(ctx, m) }

// Forget removes the record of an exit, once the daemon has its own. It is
// idempotent.
func (c *Client) Forget(ctx context.Context, m *wire.Forget) error { return c.simple(ctx, m) }

// ClearLog removes what is kept of a container's output. It is idempotent.
func (c *Client) ClearLog(ctx context.Context, m *wire.ClearLog) error { return c.simple(ctx, m) }

// Upgrade makes the supervisor execute the given binary (nil: the one that is
// at its path now) in place, with its process number, children and clients. The
// connection ends, and Connect again shows by Welcome.Build that it worked.
// Requests that were not answered were not begun, or go on. Errors: Unavailable
// if starts did not come to an end; of execve(2), and then all goes on as before.
func (c *Client) Upgrade(ctx context.Context, binary *os.File) error {
	m := &wire.Upgrade{}
	var files []*os.File
	if binary != nil {
		m.Binary = 1
		files = append(files, binary)
	}
	err := c.simple(ctx, m, files...)
	if errors.Is(err, io.EOF) { // the new program has begun without it
		return nil
	}
	return err
}

// Shutdown ends the supervisor. Errors: Conflict while a container runs.
func (c *Client) Shutdown(ctx context.Context) error { return c.simple(ctx, &wire.Shutdown{}) }

func (c *Client) simple(ctx context.Context, m any, files ...*os.File) error {
	var ok wire.OK
	return c.call(ctx, m, files, wire.TypeOK, &ok)
}

// SetResolver replaces what a running container's name server knows, or takes it
// away. It is idempotent. Errors: NotFound if the container does not run; Invalid
// for a server that is no address.
func (c *Client) SetResolver(ctx context.Context, m *wire.SetResolver) error { return c.simple(ctx, m) }

// SetNames replaces the names of a network. It is idempotent.
func (c *Client) SetNames(ctx context.Context, m *wire.SetNames) error { return c.simple(ctx, m) }
