package container

import (
	"context"
	"errors"
	"io"
	"net/url"
	"regexp"

	"github.com/moby/moby/api/pkg/stdcopy"
	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/opt"
)

func buildLogs(e *app.Env, f *pflag.FlagSet) app.Run {
	o := moby.ContainerLogsOptions{ShowStdout: true, ShowStderr: true}
	f.BoolVarP(&o.Follow, "follow", "f", false, "Follow log output")
	f.StringVar(&o.Since, "since", "", `Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)`)
	f.StringVar(&o.Until, "until", "", `Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)`)
	f.BoolVarP(&o.Timestamps, "timestamps", "t", false, "Show timestamps")
	f.BoolVar(&o.Details, "details", false, "Show extra details provided to logs")
	grep := f.String("grep", "", "Show only lines that match a regular expression (RE2)")
	opt.Own(f, "grep")
	remove := f.Bool("clear", false, "Remove what is kept of the container's output, and show nothing")
	opt.Own(f, "clear")
	f.StringVarP(&o.Tail, "tail", "n", "all", "Number of lines to show from the end of the logs")
	return func(ctx context.Context, args []string) (err error) {
		re, err := regexp.Compile(*grep)
		if err != nil {
			return err
		}
		api, err := e.API()
		if err != nil {
			return err
		}
		if *remove {
			for _, name := range args {
				err = errors.Join(err, clearLogs(ctx, e, api, name))
			}
			return err
		}
		if len(args) > 1 {
			m := &manyLogs{api: api, out: newPrefixed(e, args), options: o, stamps: o.Timestamps}
			if *grep != "" {
				m.only = re
			}
			return m.run(ctx, args)
		}
		// Whether the output is multiplexed only the container's record says.
		c, err := api.ContainerInspect(ctx, args[0], moby.ContainerInspectOptions{})
		if err != nil {
			return err
		}
		body, err := api.ContainerLogs(ctx, c.Container.ID, o)
		if err != nil {
			return err
		}
		defer body.Close()
		var stdout, stderr io.Writer = e.Out, e.Err
		if *grep != "" {
			out, errOut := &matching{w: e.Out, re: re}, &matching{w: e.Err, re: re}
			defer func() { err = errors.Join(err, out.end(), errOut.end()) }()
			stdout, stderr = out, errOut
		}
		if c.Container.Config.Tty {
			_, err = io.Copy(stdout, body)
		} else {
			_, err = stdcopy.StdCopy(stdout, stderr, body)
		}
		return err
	}
}

// clearLogs asks for what Docker's API has no request for.
func clearLogs(ctx context.Context, e *app.Env, api *moby.Client, name string) error {
	at, err := e.Endpoint()
	if err != nil {
		return err
	}
	return at.Send(ctx, api, "/containers/"+url.PathEscape(name)+"/logs/clear", "", nil, nil)
}
