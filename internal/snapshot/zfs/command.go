package zfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"lade/internal/errdefs"
	"lade/internal/trace"
)

// run runs zfs or zpool and returns its output without the last newline.
//
// Errors: NotFound for a dataset that does not exist, Conflict for one that
// exists already or is busy, Exhausted for a full pool or quota, Unavailable if
// the program is missing, Canceled and Deadline of ctx, which kills the program.
func run(ctx context.Context, program string, args ...string) (string, error) {
	// Pdeathsig is about the thread that starts the process (prctl(2)).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var complaint strings.Builder
	cmd.Stderr = &complaint
	sp := trace.Begin(trace.File, program, strings.Join(args, " "))
	out, err := cmd.Output()
	if sp.End(err) != nil {
		if gone := ctx.Err(); gone != nil {
			return "", fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), gone)
		}
		return "", classify(program, args, strings.TrimSpace(complaint.String()), err)
	}
	return strings.TrimSuffix(string(out), "\n"), nil
}

// classify finds the kind of a failure in the words of the program.
func classify(program string, args []string, complaint string, err error) error {
	if errors.Is(err, exec.ErrNotFound) {
		return errdefs.Unavailablef("the storage driver zfs needs the program %s, which is not installed", program)
	}
	what := program + " " + strings.Join(args, " ") + ": " + complaint
	for _, k := range []struct {
		words string
		make  func(string, ...any) error
	}{
		{"does not exist", errdefs.NotFoundf},
		{"could not find any snapshots to destroy", errdefs.NotFoundf},
		{"already exists", errdefs.Conflictf},
		{"is busy", errdefs.Conflictf},
		{"out of space", errdefs.Exhaustedf},
		{"quota exceeded", errdefs.Exhaustedf},
	} {
		if strings.Contains(complaint, k.words) {
			return k.make("%s: %w", what, err)
		}
	}
	return errdefs.Internalf("%s: %w", what, err)
}
