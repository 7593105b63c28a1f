package container

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/registry"
	moby "github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"lade/client"
	"lade/internal/cli/app"
	"lade/internal/cli/opt"
	"lade/internal/cli/progress"
	"lade/internal/cli/terminal"
)

// creation is what run and create have in common.
type creation struct {
	*flags
	name      string
	platform  *string
	pull      string
	quiet     bool
	apiSocket bool
}

func newCreation(f *pflag.FlagSet, pullHelp string) *creation {
	c := &creation{flags: newFlags(f)}
	f.StringVar(&c.name, "name", "", "Assign a name to the container")
	f.StringVar(&c.pull, "pull", "missing", pullHelp)
	f.BoolVarP(&c.quiet, "quiet", "q", false, "Suppress the pull output")
	f.BoolVar(&c.apiSocket, "use-api-socket", false, "Bind mount Docker API socket and required auth")
	c.platform = app.PlatformFlag(f)
	app.TrustFlag(f, "verification")
	return c
}

func buildCreate(e *app.Env, f *pflag.FlagSet) app.Run {
	c := newCreation(f, `Pull image before creating ("always", "|missing", "never")`)
	return func(ctx context.Context, args []string) error {
		s, err := c.prepare(e, args)
		if err != nil {
			return refused(err, "create")
		}
		id, err := c.create(ctx, e, s)
		if err != nil {
			return err
		}
		return e.Println(id)
	}
}

// hint adds where help is to be found.
func hint(err error, command string) string {
	return fmt.Sprintf("%[1]s: %[2]v\n\nRun '%[1]s %[3]s --help' for more information", app.Name, err, command)
}

// refused is an error in what the user asked for.
func refused(err error, command string) error {
	if x, ok := errors.AsType[*app.Exit](err); ok {
		return x
	}
	return &app.Exit{Code: 125, Msg: hint(err, command), Err: err}
}

// prepare makes the request; nothing has been sent when it fails.
func (c *creation) prepare(e *app.Env, args []string) (*spec, error) {
	switch c.pull {
	case "always", "missing", "never", "":
	default:
		return nil, fmt.Errorf("invalid pull option: '%s': must be one of %q, %q or %q", c.pull, "always", "missing", "never")
	}
	if err := c.otherSystems(); err != nil {
		return nil, err
	}
	for _, d := range c.mounts.Deprecated {
		e.Warn("%s", d)
	}
	s, err := c.spec(args[0], args[1:])
	if err != nil {
		return nil, err
	}
	ep, err := e.Endpoint()
	if err != nil {
		return nil, err
	}
	c.addProxies(s, e.Config().Proxies(ep.Host))
	return s, nil
}

// otherSystems complains about flags that mean something to another system's
// engine only.
func (c *creation) otherSystems() error {
	var errs []string
	for _, name := range []string{"cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops"} {
		if c.set.Changed(name) {
			errs = append(errs, fmt.Sprintf(`"--%s" is only supported on a Docker daemon running on windows, but the Docker daemon is running on linux`, name))
		}
	}
	if errs == nil {
		return nil
	}
	return &app.Exit{Code: 1, Msg: strings.Join(errs, "\n")}
}

// addProxies gives the container the proxies of config.json that it was not
// told otherwise.
func (c *creation) addProxies(s *spec, proxies map[string]string) {
	given := map[string]bool{}
	for _, v := range s.config.Env {
		k, _, _ := strings.Cut(v, "=")
		given[k] = true
	}
	for k, v := range proxies {
		if !given[k] {
			s.config.Env = append(s.config.Env, k+"="+v)
		}
	}
}

// create creates the container, pulling its image when it is not there, and
// returns its id.
func (c *creation) create(ctx context.Context, e *app.Env, s *spec) (id string, err error) {
	cid, err := newCIDFile(s.host.ContainerIDFile)
	if err != nil {
		return "", err
	}
	defer cid.close()
	var named reference.Named
	any, err := reference.ParseAnyReference(s.config.Image)
	if err != nil {
		return "", err
	}
	if n, ok := any.(reference.Named); ok {
		named = reference.TagNameOnly(n)
	}
	var platform *ocispec.Platform
	if *c.platform != "" {
		if platform, err = opt.Platform(*c.platform); err != nil {
			return "", fmt.Errorf("error parsing specified platform: %w", err)
		}
	}
	var secrets []byte
	if c.apiSocket {
		if secrets, err = useAPISocket(e, s); err != nil {
			return "", err
		}
	}
	if c.pull == "always" {
		if err := c.pullImage(ctx, e, s.config.Image, platform); err != nil {
			return "", err
		}
	}
	s.host.ConsoleSize[0], s.host.ConsoleSize[1] = e.Out.Size()
	api, err := e.API()
	if err != nil {
		return "", err
	}
	if err := c.rates.need(ctx, api); err != nil {
		return "", err
	}
	if len(s.ports) > 0 {
		if err := app.NeedLade(ctx, api, "policy= and from= of a published port need"); err != nil {
			return "", err
		}
	}
	c.rates.annotate(s.host)
	if err := c.kept.annotate(ctx, api, s.host); err != nil {
		return "", err
	}
	if err := c.onUnhealthy.annotate(s.host); err != nil {
		return "", err
	}
	req := moby.ContainerCreateOptions{Config: s.config, HostConfig: s.host, NetworkingConfig: s.network, Platform: platform, Name: c.name}
	res, err := api.ContainerCreate(ctx, req)
	if errdefs.IsNotFound(err) && named != nil && c.pull == "missing" {
		if !c.quiet {
			e.Complain(fmt.Sprintf("Unable to find image '%s' locally", reference.FamiliarString(named)))
		}
		if err := c.pullImage(ctx, e, s.config.Image, platform); err != nil {
			return "", err
		}
		res, err = api.ContainerCreate(ctx, req)
	}
	if err != nil {
		return "", err
	}
	for _, ip := range s.host.DNS {
		if ip.IsLoopback() {
			res.Warnings = append(res.Warnings, fmt.Sprintf("Localhost DNS (%s) may fail in containers.", ip))
			break
		}
	}
	for _, w := range res.Warnings {
		e.Warn("%s", w)
	}
	if secrets != nil {
		if err := copySecrets(ctx, api, res.ID, secrets); err != nil {
			return "", fmt.Errorf("injecting docker config.json into container failed: %w", err)
		}
	}
	return res.ID, cid.write(res.ID)
}

func (c *creation) pullImage(ctx context.Context, e *app.Env, image string, platform *ocispec.Platform) error {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return err
	}
	auth, err := e.RegistryAuth(named)
	if err != nil {
		return err
	}
	o := moby.ImagePullOptions{RegistryAuth: auth}
	if platform != nil {
		o.Platforms = []ocispec.Platform{*platform}
	}
	api, err := e.API()
	if err != nil {
		return err
	}
	body, err := api.ImagePull(ctx, image, o)
	if err != nil {
		return err
	}
	defer body.Close()
	out := e.Err // stdout is for the id
	if c.quiet {
		out = terminal.NewOut(io.Discard)
	}
	return progress.Show(ctx, body, out, nil)
}

// cidFile is the file of --cidfile; it goes again if no id came.
type cidFile struct {
	f       *os.File
	written bool
}

func newCIDFile(path string) (*cidFile, error) {
	if path == "" {
		return &cidFile{}, nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("container ID file found, make sure the other container isn't running or delete %s", path)
	}
	if err != nil {
		return nil, fmt.Errorf("failed to create the container ID file: %w", err)
	}
	return &cidFile{f: f}, nil
}

func (c *cidFile) write(id string) error {
	if c.f == nil {
		return nil
	}
	if _, err := c.f.WriteString(id); err != nil {
		return fmt.Errorf("failed to write the container ID to the file: %w", err)
	}
	c.written = true
	return nil
}

func (c *cidFile) close() {
	if c.f == nil {
		return
	}
	_ = c.f.Close()
	if !c.written {
		_ = os.Remove(c.f.Name())
	}
}

// secretsPath is where a container with --use-api-socket finds credentials.
const secretsPath = "/run/secrets/docker/config.json"

// useAPISocket mounts the engine's socket and returns a config.json with the
// user's credentials, nil if there are none.
func useAPISocket(e *app.Env, s *spec) ([]byte, error) {
	ep, err := e.Endpoint()
	if err != nil {
		return nil, err
	}
	socket, ok := strings.CutPrefix(ep.Host, "unix://")
	if !ok {
		return nil, fmt.Errorf("flag --use-api-socket can only be used with unix sockets: docker endpoint %s incompatible", ep.Host)
	}
	s.host.Mounts = append(s.host.Mounts, mount.Mount{Type: mount.TypeBind, Source: socket, Target: client.DockerSocket, BindOptions: &mount.BindOptions{}})
	if slices.ContainsFunc(s.config.Env, func(v string) bool { return strings.HasPrefix(v, "DOCKER_CONFIG=") }) {
		return nil, nil
	}
	auths := map[string]map[string]string{}
	for _, server := range e.Config().Servers() {
		a, err := e.Config().Auth(server)
		if err != nil {
			return nil, fmt.Errorf("resolving credentials failed: %w", err)
		}
		if a != (registry.AuthConfig{}) {
			auths[server] = map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(a.Username + ":" + a.Password))}
			if a.IdentityToken != "" {
				auths[server]["identitytoken"] = a.IdentityToken
			}
		}
	}
	if len(auths) == 0 {
		return nil, nil
	}
	s.config.Env = append(s.config.Env, "DOCKER_CONFIG="+strings.TrimSuffix(secretsPath, "/config.json"))
	return json.Marshal(map[string]any{"auths": auths})
}

func copySecrets(ctx context.Context, api *moby.Client, id string, secrets []byte) error {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: secretsPath, Size: int64(len(secrets)), Mode: 0o600})
	if err == nil {
		_, err = w.Write(secrets)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	_, err = api.CopyToContainer(ctx, id, moby.CopyToContainerOptions{DestinationPath: "/", Content: &b})
	return err
}
