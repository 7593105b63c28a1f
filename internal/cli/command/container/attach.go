package container

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/moby/moby/api/types/container"
	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/terminal"
)

func buildAttach(e *app.Env, f *pflag.FlagSet) app.Run {
	noStdin := f.Bool("no-stdin", false, "Do not attach STDIN")
	proxy := f.Bool("sig-proxy", true, "Proxy all received signals to the process")
	keys := f.String("detach-keys", "", "Override the key sequence for detaching a container")
	return func(ctx context.Context, args []string) error {
		api, err := e.API()
		if err != nil {
			return err
		}
		// Waiting begins first: the container may end while we attach.
		res := api.ContainerWait(context.WithoutCancel(ctx), args[0], moby.ContainerWaitOptions{})
		c, err := attachable(ctx, api, args[0])
		if err != nil {
			return err
		}
		if err := e.In.Check(!*noStdin, c.Config.Tty); err != nil {
			return err
		}
		if *proxy && !c.Config.Tty {
			defer forwardSignals(ctx, api, args[0])()
		}
		o := moby.ContainerAttachOptions{Stream: true, Stdin: !*noStdin && c.Config.OpenStdin, Stdout: true, Stderr: true, DetachKeys: detachKeys(e, *keys)}
		resp, err := api.ContainerAttach(ctx, args[0], o)
		if err != nil {
			return err
		}
		defer resp.Close()
		// Attaching to a container that has just stopped would wait for ever.
		if _, err := attachable(ctx, api, args[0]); err != nil {
			return err
		}
		if c.Config.Tty && e.Out.IsTerminal() {
			// A changed size makes the program draw itself anew.
			if h, w := e.Out.Size(); h > 0 {
				_ = resizeContainer(api, args[0])(ctx, h+1, w+1)
			}
			defer followSize(ctx, e, resizeContainer(api, args[0]))()
		}
		s := &stream{env: e, resp: resp.HijackedResponse, tty: c.Config.Tty, keys: o.DetachKeys}
		s.in, s.out, s.err = streams(e, o.Stdin, true, true, c.Config.Tty)
		if err := s.copy(ctx); err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		select {
		case r := <-res.Result:
			if r.Error != nil {
				return errors.New(r.Error.Message)
			}
			return exit(int(r.StatusCode))
		case err := <-res.Error:
			return err
		}
	}
}

func attachable(ctx context.Context, api *moby.Client, id string) (*container.InspectResponse, error) {
	res, err := api.ContainerInspect(ctx, id, moby.ContainerInspectOptions{})
	if err != nil {
		return nil, err
	}
	switch c := &res.Container; {
	case c.State == nil || !c.State.Running:
		return nil, errors.New("You cannot attach to a stopped container, start it first")
	case c.State.Paused:
		return nil, errors.New("You cannot attach to a paused container, unpause it first")
	case c.State.Restarting:
		return nil, errors.New("You cannot attach to a restarting container, wait until it is running")
	default:
		return c, nil
	}
}

type start struct {
	env                             *app.Env
	attach, stdin                   bool
	keys, checkpoint, checkpointDir string
}

func buildStart(e *app.Env, f *pflag.FlagSet) app.Run {
	s := &start{env: e}
	f.BoolVarP(&s.attach, "attach", "a", false, "Attach STDOUT/STDERR and forward signals")
	f.BoolVarP(&s.stdin, "interactive", "i", false, "Attach container's STDIN")
	f.StringVar(&s.keys, "detach-keys", "", "Override the key sequence for detaching a container")
	f.StringVar(&s.checkpoint, "checkpoint", "", "Restore from this checkpoint")
	f.StringVar(&s.checkpointDir, "checkpoint-dir", "", "Use a custom checkpoint storage directory")
	return func(ctx context.Context, args []string) error {
		api, err := e.API()
		if err != nil {
			return err
		}
		switch {
		case (s.attach || s.stdin) && len(args) > 1:
			return errors.New("you cannot start and attach multiple containers at once")
		case s.attach || s.stdin:
			return s.attached(ctx, api, args[0])
		case s.checkpoint != "" && len(args) > 1:
			return errors.New("you cannot restore multiple containers at once")
		}
		var bad []string
		for _, id := range args {
			_, err := api.ContainerStart(ctx, id, s.options())
			switch {
			case err == nil && s.checkpoint == "":
				err = e.Println(id)
				if err != nil {
					return err
				}
			case err != nil && s.checkpoint != "":
				return err
			case err != nil:
				e.Complain(err)
				bad = append(bad, id)
			}
		}
		if len(bad) > 0 {
			return fmt.Errorf("Error: failed to start containers: %s", strings.Join(bad, ", "))
		}
		return nil
	}
}

func (s *start) options() moby.ContainerStartOptions {
	return moby.ContainerStartOptions{CheckpointID: s.checkpoint, CheckpointDir: s.checkpointDir}
}

// attached starts one container and stays with it.
func (s *start) attached(ctx context.Context, api *moby.Client, name string) error {
	e := s.env
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	res, err := api.ContainerInspect(ctx, name, moby.ContainerInspectOptions{})
	if err != nil {
		return err
	}
	c := &res.Container
	if !c.Config.Tty {
		defer forwardSignals(ctx, api, c.ID)()
	}
	o := moby.ContainerAttachOptions{Stream: true, Stdin: s.stdin && c.Config.OpenStdin, Stdout: true, Stderr: true, DetachKeys: detachKeys(e, s.keys)}
	resp, err := api.ContainerAttach(ctx, c.ID, o)
	if err != nil {
		return err
	}
	defer resp.Close()
	st := &stream{env: e, resp: resp.HijackedResponse, tty: c.Config.Tty, keys: o.DetachKeys}
	st.in, st.out, st.err = streams(e, o.Stdin, true, true, c.Config.Tty)
	streamed := make(chan error, 1)
	go func() { streamed <- st.copy(ctx) }()
	status := wait(ctx, e, api, c.ID, c.HostConfig.AutoRemove)
	if _, err := api.ContainerStart(ctx, c.ID, s.options()); err != nil {
		if c.HostConfig.AutoRemove {
			<-status
		}
		cancel()
		<-streamed
		return err
	}
	if c.Config.Tty && e.Out.IsTerminal() {
		defer followSize(ctx, e, resizeContainer(api, c.ID))()
	}
	if err := <-streamed; errors.Is(err, terminal.ErrDetached) {
		return nil
	} else if err != nil {
		return err
	}
	return exit(<-status)
}
