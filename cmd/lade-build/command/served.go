package command

import (
	"context"
	"fmt"
	"strings"

	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/session/sshforward/sshprovider"
	"google.golang.org/grpc"

	ladeclient "lade/client"
	"lade/internal/build"
)

// served is what the builder may ask of us.
func served(c *build.Command, config *ladeclient.Config) ([]session.Attachable, error) {
	out := []session.Attachable{&keyring{config: config}}
	var files []secretsprovider.Source
	for _, s := range c.Secrets {
		f, err := secret(s)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	if len(files) > 0 {
		store, err := secretsprovider.NewStore(files)
		if err != nil {
			return nil, err
		}
		out = append(out, secretsprovider.NewSecretProvider(store))
	}
	var agents []sshprovider.AgentConfig
	for _, s := range c.SSH {
		id, paths, ok := strings.Cut(s, "=")
		a := sshprovider.AgentConfig{ID: id}
		if ok {
			a.Paths = strings.Split(paths, ",")
		}
		agents = append(agents, a)
	}
	if len(agents) > 0 {
		p, err := sshprovider.NewSSHAgentProvider(agents)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// secret reads "id=ID[,src=PATH|env=NAME]".
func secret(s string) (f secretsprovider.Source, err error) {
	a, err := fields(s)
	if err != nil {
		return f, err
	}
	for k, v := range a {
		switch k {
		case "id":
			f.ID = v
		case "src", "source":
			f.FilePath = v
		case "env":
			f.Env = v
		case "type":
			if v != "file" && v != "env" {
				return f, fmt.Errorf("unsupported secret type %q", v)
			}
		default:
			return f, fmt.Errorf("unexpected key '%s' in '%s'", k, s)
		}
	}
	if a["type"] == "env" && f.Env == "" {
		f.Env, f.FilePath = f.FilePath, ""
	}
	return f, nil
}

// keyring has the credentials of the user's configuration.
type keyring struct {
	auth.UnimplementedAuthServer
	config *ladeclient.Config
}

// Register implements session.Attachable.
func (k *keyring) Register(s *grpc.Server) { auth.RegisterAuthServer(s, k) }

// Credentials implements auth.AuthServer.
func (k *keyring) Credentials(_ context.Context, q *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	server := q.Host
	if server == "registry-1.docker.io" {
		server = ladeclient.DefaultRegistry
	}
	a, err := k.config.Auth(server)
	if err != nil {
		return nil, err
	}
	if a.IdentityToken != "" {
		return &auth.CredentialsResponse{Secret: a.IdentityToken}, nil
	}
	return &auth.CredentialsResponse{Username: a.Username, Secret: a.Password}, nil
}
