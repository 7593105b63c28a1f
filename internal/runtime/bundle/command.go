package bundle

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/sys"
	"lade/internal/trace"
)

// Limit is how long a command of a runtime may take before it counts as hung.
const Limit = 2 * time.Minute

// Streams are what a command gets as descriptors 0, 1 and 2; −1 is /dev/null.
type Streams [3]int

// Quiet is nothing.
var Quiet = Streams{-1, -1, -1}

// Run runs a program of the runtime and waits until it has ended; it is killed
// when that takes longer than Limit or ctx ends. input is its standard input
// unless streams name one. Errors: *exec.ExitError; NotFound if there is no such
// program.
func (b *Bundle) Run(ctx context.Context, streams Streams, input *os.File, program string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = b.Dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/"}
	// Not our descriptors, but new ones: os/exec closes none, and theirs are not
	// to become non-blocking.
	for i, to := range []func(*os.File){func(f *os.File) { cmd.Stdin = f }, func(f *os.File) { cmd.Stdout = f }, func(f *os.File) { cmd.Stderr = f }} {
		if streams[i] < 0 {
			continue
		}
		fd, err := unix.FcntlInt(uintptr(streams[i]), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return sys.Error("fcntl", "F_DUPFD_CLOEXEC", err)
		}
		f := os.NewFile(uintptr(fd), "stream")
		defer f.Close()
		to(f)
	}
	if input != nil {
		cmd.Stdin = input
	}
	span := trace.Begin(trace.Process, "execve "+program, b.ID)
	err := span.End(cmd.Run())
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return errdefs.NotFoundf("%w", err)
	}
	if err != nil && ctx.Err() != nil {
		return errdefs.Unavailablef("%s has not ended: %w", program, context.Cause(ctx))
	}
	return err
}
