package container

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	moby "github.com/moby/moby/client"
	mobysignal "github.com/moby/sys/signal"

	"lade/internal/cli/app"
	"lade/internal/cli/terminal"
)

// stream copies between the client's streams and a hijacked connection.
type stream struct {
	env      *app.Env
	resp     moby.HijackedResponse
	in       io.Reader // nil: not attached
	out, err io.Writer // nil: not attached
	tty      bool
	keys     string
}

// copy returns when the output has ended, when the detach keys were typed
// (terminal.ErrDetached), or when ctx ends. The terminal is then as it was.
func (s *stream) copy(ctx context.Context) error {
	if s.in != nil && s.tty {
		keys, err := terminal.Keys(s.keys)
		if err != nil {
			s.env.Warn("invalid detach escape keys, using default: %v", err)
			keys, _ = terminal.Keys("")
		}
		if err := s.env.In.Raw(); err != nil {
			return err
		}
		defer s.env.In.Restore()
		s.in = terminal.Detachable(s.in, keys)
	}
	output := s.copyOut()
	input := s.copyIn()
	for {
		select {
		case err := <-output:
			return err
		case err := <-input:
			if errors.Is(err, terminal.ErrDetached) {
				return err
			}
			if output == nil {
				return nil
			}
			input = nil // go on until the output ends
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *stream) copyOut() <-chan error {
	if s.out == nil && s.err == nil {
		return nil
	}
	done := make(chan error, 1)
	go func() {
		var err error
		if s.tty {
			w := s.out
			if w == nil {
				w = s.err
			}
			_, err = io.Copy(w, s.resp.Reader)
		} else {
			_, err = stdcopy.StdCopy(orDiscard(s.out), orDiscard(s.err), s.resp.Reader)
		}
		s.env.In.Restore()
		done <- err
	}()
	return done
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

func (s *stream) copyIn() <-chan error {
	done := make(chan error, 1)
	go func() {
		var err error
		if s.in != nil {
			_, err = io.Copy(s.resp.Conn, s.in)
			s.env.In.Restore()
		}
		if !errors.Is(err, terminal.ErrDetached) {
			// The far end sees the end of the input; an error shows at the output.
			_ = s.resp.CloseWrite()
		}
		done <- err
	}()
	return done
}

// wait asks for the exit status of a container before it is started. The
// channel delivers one status; 125 when the engine could not tell.
func wait(ctx context.Context, e *app.Env, api *moby.Client, id string, removed bool) <-chan int {
	cond := container.WaitConditionNextExit
	if removed {
		cond = container.WaitConditionRemoved
	}
	res := api.ContainerWait(ctx, id, moby.ContainerWaitOptions{Condition: cond})
	status := make(chan int, 1)
	go func() {
		select {
		case r := <-res.Result:
			if r.Error == nil {
				status <- int(r.StatusCode)
				return
			}
			e.Complain("Error waiting for container:", r.Error.Message)
		case err := <-res.Error:
			if !errors.Is(err, context.Canceled) {
				e.Complain("error waiting for container:", err)
			}
		case <-ctx.Done():
		}
		status <- 125
	}()
	return status
}

// forwardSignals passes every signal that we get on to the container until stop
// is called.
func forwardSignals(ctx context.Context, api *moby.Client, id string) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := make(chan os.Signal, 128)
	signal.Notify(c)
	go func() {
		for {
			select {
			case s := <-c:
				if name := signalName(s); name != "" {
					// A container that has just ended is no news.
					_, _ = api.ContainerKill(ctx, id, moby.ContainerKillOptions{Signal: name})
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		signal.Stop(c)
		cancel()
	}
}

// signalName is empty for signals that concern only this process: SIGURG is the
// Go runtime's own.
func signalName(s os.Signal) string {
	switch s {
	case syscall.SIGCHLD, syscall.SIGPIPE, syscall.SIGURG:
		return ""
	}
	for name, n := range mobysignal.SignalMap {
		if n == s {
			return name
		}
	}
	return ""
}

// resizeTries is how often the first size is sent: the process may be a moment
// late to have a terminal.
const resizeTries = 10

// followSize keeps a terminal in the container as large as ours until stop is
// called.
func followSize(ctx context.Context, e *app.Env, resize func(ctx context.Context, height, width uint) error) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	changed, unlisten := terminal.Resized()
	send := func() error {
		h, w := e.Out.Size()
		if h == 0 && w == 0 {
			return nil
		}
		return resize(ctx, h, w)
	}
	go func() {
		for n := 1; send() != nil; n++ {
			if n > resizeTries {
				e.Complain("failed to resize tty, using default size")
				break
			}
			select {
			case <-time.After(time.Duration(n) * 10 * time.Millisecond):
			case <-ctx.Done():
				return
			}
		}
		for {
			select {
			case <-changed:
				_ = send()
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { unlisten(); cancel() }
}

func resizeContainer(api *moby.Client, id string) func(context.Context, uint, uint) error {
	return func(ctx context.Context, h, w uint) error {
		_, err := api.ContainerResize(ctx, id, moby.ContainerResizeOptions{Height: h, Width: w})
		return err
	}
}

// detachKeys is the sequence of a flag, else of config.json.
func detachKeys(e *app.Env, flag string) string {
	if flag != "" {
		return flag
	}
	return e.Config().DetachKeys()
}
