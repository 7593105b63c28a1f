package system

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/command/container"
	"lade/internal/cli/command/image"
	"lade/internal/cli/command/network"
	"lade/internal/cli/command/secret"
	"lade/internal/cli/command/volume"
	"lade/internal/cli/format"
)

// types are the kinds of objects that Docker knows; those that this engine does
// not have are never found.
func types() []string {
	return []string{"config", "container", "image", "network", "node", "plugin", "secret", "service", "task", "volume"}
}

func buildInspect(e *app.Env, f *pflag.FlagSet) app.Run {
	layout := f.StringP("format", "f", "", app.InspectFormat)
	kind := f.String("type", "", "Only inspect objects of the given type")
	size := f.BoolP("size", "s", false, "Display total file sizes if the type is container")
	return func(ctx context.Context, args []string) error {
		if f.Changed("type") && *kind == "" {
			return fmt.Errorf(`type is empty: must be one of "%s"`, strings.Join(types(), `", "`))
		}
		if *kind != "" && !slices.Contains(types(), *kind) {
			return fmt.Errorf(`unknown type: %q: must be one of "%s"`, *kind, strings.Join(types(), `", "`))
		}
		api, err := e.API()
		if err != nil {
			return err
		}
		// The order in which a name is looked for.
		kinds := []struct {
			name string
			get  format.Lookup
		}{
			{"container", container.Lookup(ctx, api, *size)},
			{"image", image.Lookup(ctx, api)},
			{"network", network.Lookup(ctx, api, false)},
			{"volume", volume.Lookup(ctx, api)},
			{"secret", secret.Secrets(ctx, api)},
			{"config", secret.Configs(ctx, api)},
			{"plugin", plugins(ctx, api)},
		}
		return app.Inspect(e, args, *layout, func(ref string) (any, []byte, error) {
			for _, k := range kinds {
				if *kind != "" && *kind != k.name {
					continue
				}
				v, raw, err := k.get(ref)
				if err != nil && *kind == "" && skippable(err) {
					continue
				}
				if err == nil && *size && k.name != "container" {
					e.Warn("--size ignored for %s", k.name)
				}
				return v, raw, err
			}
			return nil, nil, fmt.Errorf("Error: No such object: %s", ref)
		})
	}
}

// plugins finds managed plugins.
func plugins(ctx context.Context, api *moby.Client) format.Lookup {
	return func(ref string) (any, []byte, error) {
		res, err := api.PluginInspect(ctx, ref, moby.PluginInspectOptions{})
		return res.Plugin, res.Raw, err
	}
}

// skippable reports whether an object may still be of another kind.
func skippable(err error) bool {
	return errdefs.IsNotFound(err) || strings.Contains(err.Error(), "not supported") || strings.Contains(err.Error(), "invalid reference format")
}

func joinSorted(m map[string]string) string {
	out := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, ", ")
}
