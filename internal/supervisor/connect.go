package supervisor

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"lade/internal/errdefs"
	"lade/internal/linux/service"
	"lade/internal/supervisor/wire"
)

// attempts bounds how often a supervisor that ends while we connect is
// replaced.
const attempts = 5

// Connect connects to the supervisor in o.Root, or starts o.Binary in a session
// of its own and connects when it says that it is ready. The caller must Close
// the client. Errors: Unavailable if there is none and none can be started.
func Connect(ctx context.Context, o Options) (*Client, wire.Welcome, error) {
	root, err := filepath.Abs(o.Root)
	if err != nil {
		return nil, wire.Welcome{}, err
	}
	o.Root = root
	var last error
	for range attempts {
		socket, err := wire.Dial(o.Root)
		switch {
		case err == nil:
			c, w, err := newClient(ctx, o, socket)
			if err == nil || !errors.Is(err, errdefs.Unavailable) {
				return c, w, err
			}
			last = err // it has just ended
			continue
		case !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.ECONNREFUSED):
			return nil, wire.Welcome{}, errdefs.Unavailablef("supervisor: %w", err)
		}
		if o.Binary == "" {
			return nil, wire.Welcome{}, errdefs.Unavailablef("no supervisor runs in %s", o.Root)
		}
		// Another daemon may start one at the same time: then ours ends, because
		// the root is taken, and the other's is there.
		last = launch(ctx, o)
		if ctx.Err() != nil {
			return nil, wire.Welcome{}, context.Cause(ctx)
		}
	}
	return nil, wire.Welcome{}, errdefs.Unavailablef("supervisor: %w", last)
}

// Start starts o.Binary if no supervisor runs in o.Root, and returns when one
// does. Connect does so too; a daemon that has more to do until it needs one
// saves time. Errors: Unavailable.
func Start(ctx context.Context, o Options) error {
	root, err := filepath.Abs(o.Root)
	if err != nil {
		return err
	}
	o.Root = root
	if socket, err := wire.Dial(root); err == nil {
		return os.NewSyscallError("close", syscall.Close(socket))
	}
	return launch(ctx, o)
}

// launch starts a supervisor that survives us, and waits until it is ready.
func launch(ctx context.Context, o Options) error {
	cmd := exec.Command(o.Binary, append([]string{"--root", o.Root}, o.Args...)...)
	cmd.Env = environment()
	return service.Start(ctx, cmd)
}

// calm turns off the signals by which the Go runtime takes a processor away:
// nothing in a supervisor computes for long, and every thread that got one keeps
// the pages of its signal stack (70 kB in all).
const calm = "GODEBUG=asyncpreemptoff=1"

// environment returns what of our environment a supervisor is given, and calm:
// of two values the last one counts.
func environment() []string {
	env := []string{calm}
	for _, v := range os.Environ() {
		for _, keep := range []string{"PATH=", "LADE_", "GOTRACEBACK=", "GODEBUG=", "TMPDIR="} {
			if strings.HasPrefix(v, keep) {
				env = append(env, v)
			}
		}
	}
	return env
}
