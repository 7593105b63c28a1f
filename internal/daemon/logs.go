package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"lade/internal/engine"
	"lade/internal/errdefs"
	"lade/internal/logs"
	"lade/internal/store"
)

// logsUsage is what `laded logs --help` says.
const logsUsage = `Usage:  laded logs [OPTIONS] CONTAINER

Print the log of a container of an engine that does not run; it may go on
writing it. An engine that runs is asked by "lade logs".

      --config-file string   As laded's
      --data-root string     As laded's
  -n, --tail int             Number of lines to show from the end of the logs (default: all)
  -t, --timestamps           Show timestamps
`

// printLogs is `laded logs`. It returns the exit code.
func printLogs(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f := pflag.NewFlagSet("laded logs", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	root, file := f.String("data-root", "", ""), f.String("config-file", "", "")
	tail, stamps := f.IntP("tail", "n", -1, ""), f.BoolP("timestamps", "t", false, "")
	err := f.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, logsUsage)
		return 0
	}
	if err == nil && f.NArg() != 1 {
		err = errdefs.Invalidf("laded logs takes one container")
	}
	if err == nil {
		var ours []string
		if *root != "" {
			ours = append(ours, "--data-root", *root)
		}
		if *file != "" {
			ours = append(ours, "--config-file", *file)
		}
		var c *Config
		if c, err = Load(ours); err == nil {
			err = logsAtRest(ctx, c.DataRoot, f.Arg(0), *tail, *stamps, stdout, stderr)
		}
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

func logsAtRest(ctx context.Context, root, name string, tail int, stamps bool, stdout, stderr io.Writer) (err error) {
	records, err := store.Open(filepath.Join(root, "records"), slog.New(slog.DiscardHandler))
	if err != nil {
		return errdefs.Conflictf("%s cannot be read, ask its engine: %w", root, err)
	}
	path, form, err := engine.LogAtRest(records, root, name)
	err = errors.Join(err, records.Close()) // an engine that is started meanwhile does not wait for a reader
	if err != nil {
		return err
	}
	out, errOut := bufio.NewWriter(stdout), bufio.NewWriter(stderr)
	defer func() { err = errors.Join(err, out.Flush(), errOut.Flush()) }()
	for m, err := range logs.Open(path, logs.ReadOptions{Format: form, Tail: tail, Cancel: ctx.Done()}) {
		if err != nil {
			return err
		}
		w := out
		if m.Stream == logs.Stderr {
			w = errOut
		}
		if stamps {
			if _, err := w.WriteString(m.Time.UTC().Format(time.RFC3339Nano) + " "); err != nil {
				return err
			}
		}
		if _, err := w.Write(m.Line); err != nil {
			return err
		}
	}
	return nil
}
