package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/pflag"

	"lade/internal/content"
	"lade/internal/engine"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/store"
)

// checkUsage is what `laded check --help` says.
const checkUsage = `Usage:  laded check [OPTIONS]

Follow every reference in the data of an engine that does not run, and print
what is wrong, a line each. The options are those of laded that name the data
(--data-root, --exec-root, --config-file), and:

      --deep   Read every blob and compare it with its digest
`

// check is `laded check`. It returns the exit code: 0 if nothing is wrong.
func check(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	deep := slices.Contains(args, "--deep")
	c, err := Load(slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "--deep" }))
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, checkUsage)
		return 0
	}
	var faults []string
	if err == nil {
		faults, err = Check(ctx, c.DataRoot, c.ExecRoot, deep)
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	for _, f := range faults {
		fmt.Fprintln(stdout, f)
	}
	if len(faults) > 0 {
		return 1
	}
	fmt.Fprintln(stdout, "clean")
	return 0
}

// Check returns what is wrong with the data of an engine that does not run; see
// engine.Check. deep reads every blob. Errors: Conflict if a daemon has the
// data root, NotFound if there is none.
func Check(ctx context.Context, dataRoot, execRoot string, deep bool) (faults []string, err error) {
	if _, err := os.Stat(filepath.Join(dataRoot, "records")); err != nil {
		return nil, errdefs.NotFoundf("%s is no data root of lade: %w", dataRoot, err)
	}
	complaints := &complaints{}
	log := slog.New(complaints)
	records, err := store.Open(filepath.Join(dataRoot, "records"), log)
	if err != nil {
		return nil, errdefs.Conflictf("%s cannot be checked: %w", dataRoot, err)
	}
	defer func() { err = errors.Join(err, records.Close()) }()
	blobs, err := content.Open(filepath.Join(dataRoot, "content"), log)
	if err != nil {
		return nil, err
	}
	images, err := image.New(image.Config{Store: records, Content: blobs, Logger: log})
	if err != nil {
		return nil, err
	}
	in := engine.CheckInput{Root: dataRoot, ExecRoot: execRoot, Store: records, Content: blobs, Images: images, Deep: deep}
	if in.Snapshots, in.Stray, err = surveyStorage(dataRoot, log); err != nil {
		return nil, err
	}
	faults, err = engine.Check(ctx, in)
	return append(complaints.lines, faults...), err
}

// complaints is a log in which every warning is a fault: what a package finds
// damaged while it reads its records it logs and leaves alone.
type complaints struct{ lines []string }

// Enabled implements slog.Handler.
func (c *complaints) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

// Handle implements slog.Handler.
func (c *complaints) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	c.lines = append(c.lines, line)
	return nil
}

// WithAttrs implements slog.Handler.
func (c *complaints) WithAttrs([]slog.Attr) slog.Handler { return c }

// WithGroup implements slog.Handler.
func (c *complaints) WithGroup(string) slog.Handler { return c }
