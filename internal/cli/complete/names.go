package complete

import (
	"cmp"
	"context"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	moby "github.com/moby/moby/client"

	"lade/client"
	"lade/internal/cli/app"
)

// patience is how long a person at a prompt waits.
const patience = 2 * time.Second

// Source finds what begins with typed; the caller filters again.
type Source func(ctx context.Context, e *app.Env, typed string) []string

// live is a source that asks the engine.
func live(ask func(ctx context.Context, api *moby.Client, typed string) ([]string, error)) Source {
	return func(ctx context.Context, e *app.Env, typed string) []string {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		e.NoStart = true
		api, err := e.API()
		if err != nil {
			return nil
		}
		all, err := ask(ctx, api, typed)
		if err != nil {
			return nil
		}
		return all
	}
}

// described joins a word and what it is.
func described(word, what string) string {
	what = strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, what)
	return word + "\t" + what
}

// containers are those in one of the states; in any without a state. Ids are
// offered when no name begins with what is typed.
func containers(states ...container.ContainerState) Source {
	return live(func(ctx context.Context, api *moby.Client, typed string) ([]string, error) {
		res, err := api.ContainerList(ctx, moby.ContainerListOptions{All: true})
		if err != nil {
			return nil, err
		}
		var names, ids []string
		for _, c := range res.Items {
			if len(states) > 0 && !slices.Contains(states, c.State) {
				continue
			}
			what := c.Image + ", " + c.Status
			for _, n := range c.Names {
				if n = strings.TrimPrefix(n, "/"); strings.HasPrefix(n, typed) && !strings.Contains(n, "/") {
					names = append(names, described(n, what))
				}
			}
			if n := max(12, len(typed)); strings.HasPrefix(c.ID, typed) {
				ids = append(ids, described(c.ID[:min(n, len(c.ID))], what))
			}
		}
		if len(names) == 0 {
			return ids, nil
		}
		return names, nil
	})
}

func images() Source {
	return live(func(ctx context.Context, api *moby.Client, typed string) ([]string, error) {
		res, err := api.ImageList(ctx, moby.ImageListOptions{})
		if err != nil {
			return nil, err
		}
		var names, ids []string
		for _, i := range res.Items {
			for _, t := range i.RepoTags {
				if t != "<none>:<none>" && strings.HasPrefix(t, typed) {
					names = append(names, t)
				}
			}
			if id := strings.TrimPrefix(i.ID, "sha256:"); strings.HasPrefix(id, typed) && typed != "" {
				ids = append(ids, id[:min(max(12, len(typed)), len(id))])
			}
		}
		if len(names) == 0 {
			return ids, nil
		}
		return names, nil
	})
}

func volumes() Source {
	return live(func(ctx context.Context, api *moby.Client, _ string) (out []string, err error) {
		res, err := api.VolumeList(ctx, moby.VolumeListOptions{})
		for _, v := range res.Items {
			out = append(out, described(v.Name, v.Driver))
		}
		return out, err
	})
}

func networks() Source {
	return live(func(ctx context.Context, api *moby.Client, _ string) (out []string, err error) {
		res, err := api.NetworkList(ctx, moby.NetworkListOptions{})
		for _, n := range res.Items {
			out = append(out, described(n.Name, n.Driver))
		}
		return out, err
	})
}

func secrets() Source {
	return live(func(ctx context.Context, api *moby.Client, _ string) (out []string, err error) {
		res, err := api.SecretList(ctx, moby.SecretListOptions{})
		for _, s := range res.Items {
			out = append(out, s.Spec.Name)
		}
		return out, err
	})
}

func configs() Source {
	return live(func(ctx context.Context, api *moby.Client, _ string) (out []string, err error) {
		res, err := api.ConfigList(ctx, moby.ConfigListOptions{})
		for _, c := range res.Items {
			out = append(out, c.Spec.Name)
		}
		return out, err
	})
}

// contexts are read from the user's files.
func contexts() Source {
	return func(_ context.Context, e *app.Env, _ string) []string {
		out := []string{"default"}
		all, err := client.Contexts(e.Options.Dir()).List()
		if err != nil {
			return out
		}
		for _, c := range all {
			out = append(out, described(c.Name, cmp.Or(c.Description(), c.Endpoints["docker"].Host)))
		}
		return out
	}
}

// info is what the engine says of itself.
func info(list func(*moby.SystemInfoResult) []string) Source {
	return live(func(ctx context.Context, api *moby.Client, _ string) ([]string, error) {
		res, err := api.Info(ctx, moby.InfoOptions{})
		if err != nil {
			return nil, err
		}
		return list(&res), nil
	})
}

// words are always the same.
func words(all ...string) Source {
	return func(context.Context, *app.Env, string) []string { return all }
}

// variables are the names of the environment's.
func variables() Source {
	return func(_ context.Context, _ *app.Env, _ string) (out []string) {
		for _, kv := range os.Environ() {
			name, _, _ := strings.Cut(kv, "=")
			out = append(out, name)
		}
		return out
	}
}

// either joins sources.
func either(all ...Source) Source {
	return func(ctx context.Context, e *app.Env, typed string) (out []string) {
		for _, s := range all {
			out = append(out, s(ctx, e, typed)...)
		}
		return out
	}
}

// after completes what follows a prefix: "container:NAME".
func after(prefix string, s Source) Source {
	return func(ctx context.Context, e *app.Env, typed string) (out []string) {
		rest, ok := strings.CutPrefix(typed, prefix)
		if !ok {
			return []string{prefix}
		}
		for _, w := range s(ctx, e, rest) {
			out = append(out, prefix+w)
		}
		return out
	}
}

// names are only the words of completions.
func names(all []string) []string {
	out := make([]string, len(all))
	for i, w := range all {
		out[i], _, _ = strings.Cut(w, "\t")
	}
	return out
}

// local reports whether what is typed is a path rather than a name.
func local(typed string) bool {
	return strings.HasPrefix(typed, ".") || strings.HasPrefix(typed, "~") || path.IsAbs(typed)
}
