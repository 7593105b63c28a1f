package container

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"

	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/terminal"
)

type run struct {
	*creation
	env      *app.Env
	detach   bool
	sigProxy bool
	keys     string
}

func buildRun(e *app.Env, f *pflag.FlagSet) app.Run {
	r := &run{env: e, creation: newCreation(f, `Pull image before running ("always", "missing", "never")`)}
	f.BoolVarP(&r.detach, "detach", "d", false, "Run container in background and print container ID")
	f.BoolVar(&r.sigProxy, "sig-proxy", true, "Proxy received signals to the process")
	f.StringVar(&r.keys, "detach-keys", "", "Override the key sequence for detaching a container")
	return r.run
}

func (r *run) run(ctx context.Context, args []string) error {
	s, err := r.prepare(r.env, args)
	if err != nil {
		return refused(err, "run")
	}
	c := s.config
	if r.detach {
		if len(r.attach.Values()) > 0 {
			return errors.New("conflicting options: cannot specify both --attach and --detach")
		}
		c.AttachStdin, c.AttachStdout, c.AttachStderr, c.StdinOnce = false, false, false, false
	} else if err := r.env.In.Check(c.AttachStdin, c.Tty); err != nil {
		return err
	}
	id, err := r.create(ctx, r.env, s)
	if err != nil {
		return failed(err)
	}
	return r.start(ctx, s, id)
}

// failed is an error of the engine with the exit code that shells use: 127 when
// the command is not there, 126 when it cannot be executed, else 125.
func failed(err error) error {
	msg, code := err.Error(), 125
	switch {
	case strings.Contains(msg, "executable file not found"), strings.Contains(msg, "no such file or directory"),
		strings.Contains(msg, "system cannot find the file specified"):
		code = 127
	case strings.Contains(msg, syscall.EACCES.Error()), strings.Contains(msg, syscall.EISDIR.Error()):
		code = 126
	}
	return &app.Exit{Code: code, Msg: hint(err, "run"), Err: err}
}

// start runs the created container and stays with it as long as asked.
func (r *run) start(ctx context.Context, s *spec, id string) error {
	e, c := r.env, s.config
	api, err := e.API()
	if err != nil {
		return err
	}
	// From here on a signal is the container's affair and does not end us;
	// without the proxy it ends us and not the container.
	if r.sigProxy {
		defer forwardSignals(ctx, api, id)()
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	attached := c.AttachStdin || c.AttachStdout || c.AttachStderr
	var streamed chan error
	if attached {
		if streamed, err = r.attachStreams(ctx, api, s, id); err != nil {
			return err
		}
	} else if err := e.Println(id); err != nil {
		return err
	}
	var status <-chan int
	if attached || r.remove {
		waitCtx, cancelWait := context.WithCancel(context.WithoutCancel(ctx))
		defer cancelWait()
		status = wait(waitCtx, e, api, id, r.remove)
	}
	if _, err := api.ContainerStart(ctx, id, moby.ContainerStartOptions{}); err != nil {
		if attached {
			cancel()
			<-streamed // the terminal is restored before anything is printed
		}
		if r.remove {
			<-status
		}
		return failed(err)
	}
	if !attached {
		return nil
	}
	if c.Tty && e.Out.IsTerminal() {
		defer followSize(ctx, e, resizeContainer(api, id))()
	}
	select {
	case err := <-streamed:
		if errors.Is(err, terminal.ErrDetached) {
			return nil
		}
		if err != nil {
			return err
		}
		return exit(<-status)
	case n := <-status:
		// The rest of the output is still on its way, if any was asked for.
		if !c.AttachStdout && !c.AttachStderr {
			cancel()
		}
		<-streamed
		return exit(n)
	}
}

// exit is a container's exit status as an error; nil for zero.
func exit(status int) error {
	if status == 0 {
		return nil
	}
	return &app.Exit{Code: status}
}

func (r *run) attachStreams(ctx context.Context, api *moby.Client, s *spec, id string) (chan error, error) {
	e, c := r.env, s.config
	keys := detachKeys(e, r.keys)
	resp, err := api.ContainerAttach(ctx, id, moby.ContainerAttachOptions{
		Stream: true, Stdin: c.AttachStdin, Stdout: c.AttachStdout, Stderr: c.AttachStderr, DetachKeys: keys,
	})
	if err != nil {
		return nil, err
	}
	st := &stream{env: e, resp: resp.HijackedResponse, tty: c.Tty, keys: keys}
	st.in, st.out, st.err = streams(e, c.AttachStdin, c.AttachStdout, c.AttachStderr, c.Tty)
	done := make(chan error, 1)
	go func() {
		err := st.copy(ctx)
		resp.Close()
		done <- err
	}()
	return done, nil
}

// streams are the client's streams that are attached; with a terminal both
// outputs are one.
func streams(e *app.Env, in, out, errOut, tty bool) (r io.Reader, w, we io.Writer) {
	if in {
		r = e.In
	}
	if out {
		w = e.Out
	}
	if errOut {
		we = e.Err
		if tty {
			we = e.Out
		}
	}
	return r, w, we
}
