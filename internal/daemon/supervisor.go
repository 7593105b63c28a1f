package daemon

import (
	"context"
	"os"

	"lade/internal/supervisor"
	"lade/internal/supervisor/wire"
)

// connector connects the engine with its supervisor, and sees to it that the
// supervisor is of the daemon's own build: whoever installs another lade
// restarts the daemon, which has the supervisor execute its new program. That
// keeps its containers, and it is a downgrade as well.
type connector struct {
	o       supervisor.Options
	early   *step
	version string
	tried   bool // an upgrade, once in a daemon's life
}

func newConnector(o supervisor.Options, early *step, version string) *connector {
	return &connector{o: o, early: early, version: version}
}

// connect is an engine.ConnectFunc; one call at a time.
func (c *connector) connect(ctx context.Context, h supervisor.Handler) (*supervisor.Client, wire.Welcome, error) {
	_ = c.early.wait() // what failed fails again
	o := c.o
	o.Handler = h
	client, w, err := supervisor.Connect(ctx, o)
	if err != nil || c.tried || w.Build == c.version {
		return client, w, err
	}
	c.tried = true
	client.Close()
	if err := c.upgrade(ctx, w.Build); err != nil {
		o.Logger.Warn("the supervisor goes on with its former program", "error", err)
	}
	return supervisor.Connect(ctx, o)
}

// upgrade has the supervisor execute the program that is installed. One that
// cannot now says so, and goes on. It uses a connection of its own, so that the
// engine does not see it break. Errors: of supervisor.Client.Upgrade.
func (c *connector) upgrade(ctx context.Context, was string) error {
	o := c.o
	o.Handler = nil
	binary, err := os.Open(o.Binary)
	if err != nil {
		return err
	}
	defer binary.Close()
	client, _, err := supervisor.Connect(ctx, o)
	if err != nil {
		return err
	}
	defer client.Close()
	o.Logger.Info("the supervisor executes another program", "was", was, "becomes", c.version)
	return client.Upgrade(ctx, binary)
}
