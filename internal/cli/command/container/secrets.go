package container

import (
	"context"
	"errors"
	"strings"

	"github.com/moby/moby/api/types/container"
	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/opt"
)

// secrets are the flags that give a container secrets and configs. The engine
// reads annotations, which any client can send.
type secrets struct{ secrets, configs *opt.List }

func newSecrets(f *pflag.FlagSet) *secrets {
	const form = "NAME[,target=PATH,uid=N,gid=N,mode=OCTAL]"
	s := &secrets{
		secrets: list(f, "secret", "", "Show the container a secret in /run/secrets ("+form+")", kept),
		configs: list(f, "config", "", "Show the container a config as a file ("+form+")", kept),
	}
	opt.Own(f, "secret", "config")
	return s
}

// kept checks what an annotation could not say; the engine checks the rest.
func kept(v string) (string, error) {
	if v == "" || strings.Contains(v, ";") {
		return "", errors.New("the format is NAME[,target=PATH,uid=N,gid=N,mode=OCTAL]")
	}
	return v, nil
}

// annotate asks for them when a container is created. Errors: an engine other
// than lade's, which would start the container without them.
func (s *secrets) annotate(ctx context.Context, api *moby.Client, h *container.HostConfig) error {
	asked := map[string]string{}
	for key, l := range map[string]*opt.List{"lade.secrets": s.secrets, "lade.configs": s.configs} {
		if v := l.Values(); len(v) > 0 {
			asked[key] = strings.Join(v, ";")
		}
	}
	if len(asked) == 0 {
		return nil
	}
	if err := app.NeedLade(ctx, api, "--secret and --config need"); err != nil {
		return err
	}
	annotate(h, asked)
	return nil
}
