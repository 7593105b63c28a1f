package volume

import (
	"context"
	"io"
	"net/url"
	"os"

	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/opt"
)

// own are the commands that Docker does not have. They need lade's engine.
//
// Sources: docs/volumes.md.
func own() []app.Command {
	return []app.Command{
		{Use: "clone VOLUME NEW", Short: "Make a volume with the files of another", Args: app.Exactly(2), Build: buildCopy("clone")},
		{Use: "export [OPTIONS] VOLUME", Short: "Write the files of a volume as a tar archive", Args: app.Exactly(1), Build: buildExport},
		{Use: "import [OPTIONS] NEW file|-", Short: "Make a volume of a tar archive", Args: app.Exactly(2), Build: buildImport},
		{Use: "rename VOLUME NEW", Short: "Rename a volume that no container uses", Args: app.Exactly(2), Build: buildCopy("rename")},
		{Use: "snapshot VOLUME [NEW]", Short: "Make a read-only volume with the files of another at one moment", Args: app.Between(1, 2), Build: buildCopy("snapshot")},
	}
}

// engine returns a connection with an engine that has these operations.
func engine(ctx context.Context, e *app.Env) (ask func(path string, body io.Reader) (volume.Volume, error), read func(path string) (io.ReadCloser, error), err error) {
	api, ep, err := e.Lade(ctx)
	if err != nil {
		return nil, nil, err
	}
	ask = func(path string, body io.Reader) (out volume.Volume, err error) {
		kind := ""
		if body != nil {
			kind = "application/x-tar"
		}
		return out, ep.Send(ctx, api, "/lade/volumes/"+path, kind, body, &out)
	}
	read = func(path string) (io.ReadCloser, error) { return ep.Receive(ctx, api, "/lade/volumes/"+path) }
	return ask, read, nil
}

// buildCopy is for the operations that take a volume and a new name.
func buildCopy(operation string) func(*app.Env, *pflag.FlagSet) app.Run {
	return func(e *app.Env, _ *pflag.FlagSet) app.Run {
		return func(ctx context.Context, args []string) error {
			ask, _, err := engine(ctx, e)
			if err != nil {
				return err
			}
			q := url.Values{}
			if len(args) > 1 {
				q.Set("name", args[1])
			}
			v, err := ask(url.PathEscape(args[0])+"/"+operation+"?"+q.Encode(), nil)
			if err != nil {
				return err
			}
			return e.Println(v.Name)
		}
	}
}

func buildExport(e *app.Env, f *pflag.FlagSet) app.Run {
	output := f.StringP("output", "o", "", "Write to a file, instead of STDOUT")
	return func(ctx context.Context, args []string) error {
		_, read, err := engine(ctx, e)
		if err != nil {
			return err
		}
		return app.Save(e, *output, "volume", func() (io.ReadCloser, error) { return read(url.PathEscape(args[0]) + "/export") })
	}
}

func buildImport(e *app.Env, f *pflag.FlagSet) app.Run {
	labels := opt.NewList(opt.Label)
	f.Var(labels, "label", "Set metadata for the volume")
	return func(ctx context.Context, args []string) error {
		var from io.Reader = e.In
		if args[1] != "-" {
			file, err := os.Open(args[1])
			if err != nil {
				return err
			}
			defer file.Close()
			from = file
		}
		ask, _, err := engine(ctx, e)
		if err != nil {
			return err
		}
		v, err := ask("import?"+url.Values{"name": {args[0]}, "label": labels.Values()}.Encode(), from)
		if err != nil {
			return err
		}
		return e.Println(v.Name)
	}
}
