package service

import (
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// Ready is the line that a program prints to its standard output when it serves.
// What it prints before is why it failed.
const Ready = "ready\n"

// most is how much of what a program prints before it is ready is read.
const most = 64 << 10

// Start starts a program that outlives us, in a session of its own and in the
// root directory, and returns when it has called Detach. Until then its standard
// output is ours, and its standard error if cmd has none. Errors: those of the
// start; Unavailable, with what it printed, for a program that ended instead, or
// when ctx did.
func Start(ctx context.Context, cmd *exec.Cmd) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd.Dir, cmd.Stdout = "/", w
	if cmd.Stderr == nil {
		cmd.Stderr = w
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return err
	}
	// It ends when it likes; until then, or until we end, somebody must wait for
	// it.
	go func() { _ = cmd.Wait() }()
	defer context.AfterFunc(ctx, func() { r.Close() })()
	said, err := io.ReadAll(io.LimitReader(r, most))
	if strings.HasSuffix(string(said), Ready) {
		return nil
	}
	if err != nil {
		return errdefs.Unavailablef("%s: %w", cmd.Path, err)
	}
	return errdefs.Unavailablef("%s: %s", cmd.Path, strings.TrimSpace(string(said)))
}

// Detach tells who called Start that we are ready, and gives up what connects us
// with it: input is empty from now on, and both outputs go to the end of a file,
// which is made if need be. Without one ("") what is printed to the standard
// output is lost, and the standard error stays.
func Detach(log string) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	out, errs := null, os.Stderr
	if log != "" {
		f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		out, errs = f, f
	}
	if _, err := os.Stdout.WriteString(Ready); err != nil {
		return err
	}
	for to, from := range []*os.File{null, out, errs} {
		fd := int(from.Fd())
		if fd == to { // the standard error that stays
			continue
		}
		if err := unix.Dup3(fd, to, 0); err != nil {
			return os.NewSyscallError("dup3", err)
		}
	}
	return os.Chdir("/")
}
