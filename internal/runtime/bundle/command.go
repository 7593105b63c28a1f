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
	cmd, done, err := b.Command(ctx, streams, program, args...)
	if err != nil {
		return err
	}
	defer done()
	if input != nil {
		cmd.Stdin = input
	}
	span := trace.Begin(trace.Process, "execve "+program, b.ID)
	err = span.End(cmd.Run())
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return errdefs.NotFoundf("%w", err)
	}
	if err != nil && ctx.Err() != nil {
		return errdefs.Unavailablef("%s has not ended: %w", program, context.Cause(ctx))
	}
	return err
}

// Command is a program of the runtime that is yet to be run. done is to be
// called when it was started.
func (b *Bundle) Command(ctx context.Context, streams Streams, program string, args ...string) (cmd *exec.Cmd, done func(), err error) {
	var files []*os.File
	done = func() {
		for _, f := range files {
			f.Close()
		}
	}
	// Not our descriptors, but new ones: an os.File closes its own.
	for _, from := range streams {
		fd := -1
		if from >= 0 {
			if fd, err = unix.FcntlInt(uintptr(from), unix.F_DUPFD_CLOEXEC, 3); err != nil {
				done()
				return nil, nil, sys.Error("fcntl", "F_DUPFD_CLOEXEC", err)
			}
		} else if fd, err = unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			done()
			return nil, nil, sys.Error("open", os.DevNull, err)
		}
		files = append(files, os.NewFile(uintptr(fd), "stream"))
	}
	cmd = exec.CommandContext(ctx, program, args...)
	cmd.Dir = b.Dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = files[0], files[1], files[2]
	return cmd, done, nil
}
