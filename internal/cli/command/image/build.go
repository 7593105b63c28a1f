package image

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/client"
	"lade/internal/build"
	"lade/internal/cli/app"
	"lade/internal/cli/opt"
)

// buildBuild runs lade-build in the place of this program: it has BuildKit's client,
// which would be most of this one.
func buildBuild(e *app.Env, f *pflag.FlagSet) app.Run {
	var c build.Command
	tags, args, labels := opt.NewList(nil), opt.NewList(nil), opt.NewList(opt.Label)
	f.VarP(tags, "tag", "t", `Name and optionally a tag in the "name:tag" format`)
	f.StringVarP(&c.File, "file", "f", "", `Name of the Dockerfile (Default is "PATH/Dockerfile")`)
	f.Var(args, "build-arg", "Set build-time variables")
	f.Var(labels, "label", "Set metadata for an image")
	f.StringVar(&c.Target, "target", "", "Set the target build stage to build.")
	f.BoolVarP(&c.Quiet, "quiet", "q", false, "Suppress the build output and print image ID on success")
	f.BoolVar(&c.NoCache, "no-cache", false, "Do not use cache when building the image")
	f.BoolVar(&c.Pull, "pull", false, "Always attempt to pull a newer version of the image")
	f.StringVar(&c.IDFile, "iidfile", "", "Write the image ID to the file")
	f.StringVar(&c.Network, "network", "default", "Set the networking mode for the RUN instructions during build")
	f.StringVar(&c.GroupPaths, "cgroup-parent", "", `Set the parent cgroup for the "RUN" instructions during build`)
	f.StringVar(&c.Progress, "progress", "auto", `Set type of progress output ("auto", "plain", "tty", "quiet", "rawjson"). Use plain to show container output`)
	var hosts, secrets, ssh, outputs, from, to, limits []string
	f.StringArrayVar(&hosts, "add-host", nil, `Add a custom host-to-IP mapping ("host:ip")`)
	f.StringArrayVar(&secrets, "secret", nil, `Secret to expose to the build ("id=mysecret[,src=/local/secret]")`)
	f.StringArrayVar(&ssh, "ssh", nil, `SSH agent socket or keys to expose to the build ("default|<id>[=<socket>|<key>[,<key>]]")`)
	f.StringArrayVarP(&outputs, "output", "o", nil, `Output destination ("type=local,dest=path")`)
	f.StringArrayVar(&from, "cache-from", nil, `External cache sources ("user/app:cache", "type=local,src=path/to/dir")`)
	f.StringArrayVar(&to, "cache-to", nil, `Cache export destinations ("user/app:cache", "type=local,dest=path/to/dir")`)
	f.StringArrayVar(&limits, "ulimit", nil, "Ulimit options")
	var shm opt.Bytes
	f.Var(&shm, "shm-size", `Size of "/dev/shm"`)
	platform := app.PlatformFlag(f)
	// What Docker's first builder had a use for.
	f.Bool("rm", true, "Remove intermediate containers after a successful build")
	f.Bool("force-rm", false, "Always remove intermediate containers")
	f.Bool("compress", false, "Compress the build context using gzip")
	for _, old := range []string{"rm", "force-rm", "compress"} {
		f.Lookup(old).Hidden = true
	}
	return func(ctx context.Context, paths []string) error {
		c.Context, c.Tags, c.Args, c.Labels = paths[0], tags.Values(), args.Values(), labels.Values()
		c.Hosts, c.Secrets, c.SSH, c.Outputs, c.CacheFrom, c.CacheTo, c.Ulimits = hosts, secrets, ssh, outputs, from, to, limits
		c.Platform, c.ShmSize = *platform, int64(shm)
		return runBuild(ctx, e, &c)
	}
}

// runBuild replaces this process, and returns only if that cannot be. The engine is
// reached before, so that it is started where it is to be.
func runBuild(ctx context.Context, e *app.Env, c *build.Command) error {
	path, err := builderPath()
	if err != nil {
		return err
	}
	api, err := e.API()
	if err != nil {
		return err
	}
	if _, err := api.Ping(ctx, moby.PingOptions{}); err != nil {
		return err
	}
	env, err := builderEnv(e, os.Environ())
	if err != nil {
		return err
	}
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", path, syscall.Exec(path, []string{path, build.CommandVerb, string(b)}, env))
}

// builderPath is where lade-build is: beside this program, or on PATH.
func builderPath() (string, error) {
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			path := filepath.Join(filepath.Dir(self), "lade-build")
			if _, err := os.Stat(path); err == nil {
				return path, nil
			}
		}
	}
	path, err := exec.LookPath("lade-build")
	if err != nil {
		return "", fmt.Errorf("images are built by the program lade-build, which is neither beside %s nor on PATH", app.Name)
	}
	return path, nil
}

// builderEnv tells which engine was chosen, in the variables of package client.
func builderEnv(e *app.Env, env []string) ([]string, error) {
	at, err := e.Endpoint()
	if err != nil {
		return nil, err
	}
	set := map[string]string{"LADE_HOST": at.Host, "LADE_CONTEXT": "", "DOCKER_CONFIG": e.Options.Dir()}
	if at.Context != "" && at.Context != client.DefaultContext {
		set["LADE_HOST"], set["LADE_CONTEXT"] = "", at.Context
	}
	for k, v := range set {
		env = append(slices.DeleteFunc(env, func(kv string) bool { return strings.HasPrefix(kv, k+"=") }), k+"="+v)
	}
	return env, nil
}
