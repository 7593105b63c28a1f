package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/pflag"

	"lade/internal/engine"
	"lade/internal/linux/service"
	"lade/internal/trace"
)

// engineService is the engine as start sees it.
type engineService struct {
	Handler http.Handler
	// Reload takes over a configuration that differs from the last one by the
	// options of the changes only; nil does nothing.
	Reload func(c *Config, changed []change)
	// Close ends the engine; containers go on.
	Close func() error
}

// construct puts the engine together and recovers what ran before.
type construct func(context.Context, *Config, *slog.Logger) (*engineService, error)

// start is laded from its arguments to its exit status: configuration, process
// id file, listeners, engine, serving until a signal. Listeners are open before
// the engine recovers, so early clients wait instead of failing.
func start(ctx context.Context, b engine.Build, args []string, stdout, stderr io.Writer, build construct) int {
	c, err := Load(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		Usage(stdout)
		return 0
	case err != nil:
		fmt.Fprintln(stderr, err)
		return 1
	case c.ShowVersion:
		fmt.Fprintf(stdout, "lade version %s, build %s\n", b.Version, b.Commit[:min(7, len(b.Commit))])
		return 0
	case c.Validate:
		for _, name := range c.Without {
			fmt.Fprintf(stdout, "%s has no effect: %s\n", name, reason(name))
		}
		fmt.Fprintln(stdout, "configuration OK")
		return 0
	}
	log, level := NewLogger(c, stderr)
	trace.Enable(c.Trace)
	if err := run(ctx, c, log, level, args, build); err != nil {
		log.Error("failed to start daemon", "error", err)
		fmt.Fprintln(stderr, "failed to start daemon:", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, c *Config, log *slog.Logger, level *slog.LevelVar, args []string, build construct) (err error) {
	if len(c.Without) > 0 {
		log.Warn("these options have no effect", "options", strings.Join(c.Without, " "))
	}
	if c.OOMScoreAdjust != 0 {
		// Source: proc_pid_oom_score_adj(5). Containers and the supervisor have theirs.
		if err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(c.OOMScoreAdjust)), 0); err != nil {
			return fmt.Errorf("oom-score-adjust: %w", err)
		}
	}
	for _, d := range []string{c.ExecRoot, c.DataRoot} {
		if err := os.MkdirAll(d, 0o711); err != nil {
			return err
		}
	}
	removePID, err := WritePIDFile(c.PIDFile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removePID()) }()
	listeners, err := Listen(c, log)
	if err != nil {
		return err
	}
	numbers, err := listenMetrics(c)
	if err != nil {
		closeAll(listeners)
		return err
	}
	e, err := build(ctx, c, log)
	if err != nil {
		closeAll(append(listeners, numbers))
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()

	holds := c // of the goroutine of signals
	ctx, stop := signals(ctx, log, func() { holds = reload(args, holds, e, log, level) })
	defer stop()
	after := context.AfterFunc(ctx, func() { tell(log, "STOPPING=1") })
	defer after()
	tell(log, "READY=1")
	o := serveOptions{Logger: log, Shutdown: c.ShutdownTimeout}
	if numbers != nil {
		warnMetrics(numbers, log)
		var beside sync.WaitGroup
		defer beside.Wait()
		beside.Go(func() { serveMetrics(ctx, numbers, e.Handler, o) })
	}
	return serve(ctx, e.Handler, listeners, o)
}

// tell notifies the service manager; that it does not listen is no reason to stop.
func tell(log *slog.Logger, state string) {
	if err := service.Notify(state); err != nil {
		log.Warn("cannot notify the service manager", "state", state, "error", err)
	}
}
