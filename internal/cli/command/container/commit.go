package container

import (
	"context"
	"io"

	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/opt"
)

func buildCommit(e *app.Env, f *pflag.FlagSet) app.Run {
	f.SetInterspersed(false)
	pause := f.BoolP("pause", "p", true, "Pause container during commit")
	comment := f.StringP("message", "m", "", "Commit message")
	author := f.StringP("author", "a", "", `Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")`)
	changes := opt.NewList(nil)
	f.VarP(changes, "change", "c", "Apply Dockerfile instruction to the created image")
	return func(ctx context.Context, args []string) error {
		o := moby.ContainerCommitOptions{Comment: *comment, Author: *author, Changes: changes.Values(), NoPause: !*pause}
		if len(args) > 1 {
			o.Reference = args[1]
		}
		api, err := e.API()
		if err != nil {
			return err
		}
		res, err := api.ContainerCommit(ctx, args[0], o)
		if err != nil {
			return err
		}
		return e.Println(res.ID)
	}
}

func buildExport(e *app.Env, f *pflag.FlagSet) app.Run {
	output := f.StringP("output", "o", "", "Write to a file, instead of STDOUT")
	return func(ctx context.Context, args []string) error {
		return app.Save(e, *output, "container", func() (io.ReadCloser, error) {
			api, err := e.API()
			if err != nil {
				return nil, err
			}
			return api.ContainerExport(ctx, args[0], moby.ContainerExportOptions{})
		})
	}
}
