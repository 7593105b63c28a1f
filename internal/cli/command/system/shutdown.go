package system

import (
	"context"
	"strconv"

	"github.com/spf13/pflag"

	"lade/internal/cli/app"
)

// buildShutdown is a command of lade's own.
func buildShutdown(e *app.Env, f *pflag.FlagSet) app.Run {
	timeout := f.IntP("timeout", "t", 0, "Seconds to wait before killing a container (default: each container's own)")
	return func(ctx context.Context, _ []string) error {
		api, ep, err := e.Lade(ctx)
		if err != nil {
			return err
		}
		path := "/system/shutdown"
		if f.Changed("timeout") {
			path += "?t=" + strconv.Itoa(*timeout)
		}
		var answer struct{ Stopped []string }
		if err := ep.Post(ctx, api, path, struct{}{}, &answer); err != nil {
			return err
		}
		for _, id := range answer.Stopped {
			if err := e.Println(id); err != nil {
				return err
			}
		}
		return nil
	}
}
