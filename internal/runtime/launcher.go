package runtime

import (
	"context"

	"lade/internal/errdefs"
)

// Launcher starts processes from threads that live in an empty mount namespace.
type Launcher struct {
	o Options
}

// NewLauncher starts the spawner threads. The caller must Close.
func NewLauncher(o Options) (*Launcher, error) {
	return &Launcher{o: o}, nil
}

// Close ends the spawner threads. Started processes are not touched.
func (l *Launcher) Close() error { return nil }

// Start starts the container and returns when its program was executed.
// Errors: *StartError for what the request is to blame for.
func (l *Launcher) Start(ctx context.Context, c *Container) (*Process, error) {
	return nil, errdefs.NotImplementedf("start")
}

// Exec starts a process in a running container; see Start.
func (l *Launcher) Exec(ctx context.Context, e *Exec) (*Process, error) {
	return nil, errdefs.NotImplementedf("exec")
}
