package app

import (
	"os"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"
	"github.com/spf13/pflag"

	"lade/client"
)

// RegistryAuth is the header by which the engine authenticates to the registry
// of an image; empty when the user has no credentials for it.
func (e *Env) RegistryAuth(image reference.Named) (string, error) {
	server := reference.Domain(image)
	if server == "docker.io" || server == "index.docker.io" {
		server = client.DefaultRegistry
	}
	a, err := e.Config().Auth(server)
	if err != nil {
		return "", err
	}
	if a == (registry.AuthConfig{}) {
		return "", nil
	}
	return authconfig.Encode(a)
}

// PlatformFlag declares --platform, whose default is the environment's.
func PlatformFlag(f *pflag.FlagSet) *string {
	return f.String("platform", os.Getenv("DOCKER_DEFAULT_PLATFORM"), "Set platform if server is multi-platform capable")
}

// TrustFlag declares the flag of content trust, which the client accepts and has
// no other use for.
func TrustFlag(f *pflag.FlagSet, what string) {
	f.Bool("disable-content-trust", true, "Skip image "+what)
}
