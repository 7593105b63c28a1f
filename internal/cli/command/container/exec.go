package container

import (
	"context"
	"errors"

	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/opt"
)

func buildExec(e *app.Env, f *pflag.FlagSet) app.Run {
	var o moby.ExecCreateOptions
	var detach bool
	f.SetInterspersed(false)
	f.StringVar(&o.DetachKeys, "detach-keys", "", "Override the key sequence for detaching a container")
	f.BoolVarP(&o.AttachStdin, "interactive", "i", false, "Keep STDIN open even if not attached")
	f.BoolVarP(&o.TTY, "tty", "t", false, "Allocate a pseudo-TTY")
	f.BoolVarP(&detach, "detach", "d", false, "Detached mode: run command in the background")
	f.StringVarP(&o.User, "user", "u", "", `Username or UID (format: "<name|uid>[:<group|gid>]")`)
	f.BoolVar(&o.Privileged, "privileged", false, "Give extended privileges to the command")
	env := list(f, "env", "e", "Set environment variables", opt.Env)
	envFile := list(f, "env-file", "", "Read in a file of environment variables", nil)
	f.StringVarP(&o.WorkingDir, "workdir", "w", "", "Working directory inside the container")
	return func(ctx context.Context, args []string) error {
		var err error
		if o.Env, err = opt.EnvFiles(envFile.Values(), env.Values()); err != nil {
			return err
		}
		o.Cmd = args[1:]
		o.DetachKeys = detachKeys(e, o.DetachKeys)
		o.AttachStdout, o.AttachStderr = !detach, !detach
		o.AttachStdin = o.AttachStdin && !detach
		api, err := e.API()
		if err != nil {
			return err
		}
		// That the container exists matters more than our terminal, and an exec
		// that was created stays in the engine: so look first.
		if _, err := api.ContainerInspect(ctx, args[0], moby.ContainerInspectOptions{}); err != nil {
			return err
		}
		if err := e.In.Check(o.AttachStdin, o.TTY); err != nil {
			return err
		}
		if o.TTY {
			h, w := e.Out.Size()
			o.ConsoleSize = moby.ConsoleSize{Height: h, Width: w}
		}
		res, err := api.ExecCreate(ctx, args[0], o)
		if err != nil {
			return err
		}
		if res.ID == "" {
			return errors.New("exec ID empty")
		}
		if detach {
			_, err := api.ExecStart(ctx, res.ID, moby.ExecStartOptions{Detach: true, TTY: o.TTY, ConsoleSize: o.ConsoleSize})
			return err
		}
		return runExec(ctx, e, api, res.ID, &o)
	}
}

func runExec(ctx context.Context, e *app.Env, api *moby.Client, id string, o *moby.ExecCreateOptions) error {
	resp, err := api.ExecAttach(ctx, id, moby.ExecAttachOptions{TTY: o.TTY, ConsoleSize: o.ConsoleSize})
	if err != nil {
		return err
	}
	defer resp.Close()
	if o.TTY && e.In.IsTerminal() {
		defer followSize(ctx, e, func(ctx context.Context, h, w uint) error {
			_, err := api.ExecResize(ctx, id, moby.ExecResizeOptions{Height: h, Width: w})
			return err
		})()
	}
	s := &stream{env: e, resp: resp.HijackedResponse, tty: o.TTY, keys: o.DetachKeys}
	s.in, s.out, s.err = streams(e, o.AttachStdin, true, true, o.TTY)
	if err := s.copy(ctx); err != nil {
		return err
	}
	res, err := api.ExecInspect(ctx, id, moby.ExecInspectOptions{})
	if moby.IsErrConnectionFailed(err) {
		return &app.Exit{Code: 255, Err: err} // the engine went away
	}
	if err != nil {
		return err
	}
	return exit(res.ExitCode)
}
