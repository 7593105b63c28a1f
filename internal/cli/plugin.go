package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	moby "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"lade/client"
	"lade/internal/cli/app"
)

// Docker's client runs programs called docker-NAME for commands that it does not
// have itself; so does this one. Compose is such a plugin.
//
// Source: docker/cli, cli-plugins/manager: where they are looked for, and that
// the command's name is the first argument.

// pluginDirs are where plugins are looked for, first found first.
func pluginDirs(e *app.Env) []string {
	dirs := []string{filepath.Join(e.Options.Dir(), "cli-plugins")}
	dirs = append(dirs, e.Config().PluginDirs()...)
	return append(dirs, "/usr/local/lib/docker/cli-plugins", "/usr/local/libexec/docker/cli-plugins", "/usr/lib/docker/cli-plugins", "/usr/libexec/docker/cli-plugins")
}

// findPlugin returns the program of a plugin, or "".
func findPlugin(e *app.Env, name string) string {
	if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return ""
	}
	for _, dir := range pluginDirs(e) {
		path := filepath.Join(dir, "docker-"+name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// runPlugin replaces this process by a plugin, and returns only if that cannot
// be. args begin with the command's name, or with a shell's question. The engine is reached before, so that
// it is started where it is to be, and the plugin is told where it is.
func runPlugin(ctx context.Context, e *app.Env, path string, args []string) error {
	api, err := e.API()
	if err != nil {
		return err
	}
	if !wantsHelp(args) && args[0] != cobra.ShellCompRequestCmd && args[0] != cobra.ShellCompNoDescRequestCmd {
		if _, err := api.Ping(ctx, moby.PingOptions{}); err != nil {
			return err
		}
	}
	env, err := pluginEnv(e, os.Environ())
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", path, syscall.Exec(path, append([]string{path}, args...), env))
}

func wantsHelp(args []string) bool {
	return len(args) == 1 || slices.Contains(args, "--help") || slices.Contains(args, "version")
}

// pluginEnv tells a plugin, in Docker's variables, which engine was chosen.
func pluginEnv(e *app.Env, env []string) ([]string, error) {
	name, _, err := e.Options.ContextName(e.Config())
	if err != nil {
		return nil, err
	}
	ep, err := e.Endpoint()
	if err != nil {
		return nil, err
	}
	set := map[string]string{"DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND": os.Args[0], "DOCKER_CONFIG": e.Options.Dir()}
	if name != "" && name != client.DefaultContext {
		set["DOCKER_CONTEXT"] = name
		env = slices.DeleteFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "DOCKER_HOST=") })
	} else {
		set["DOCKER_HOST"] = ep.Host
	}
	for k, v := range set {
		env = append(slices.DeleteFunc(env, func(kv string) bool { return strings.HasPrefix(kv, k+"=") }), k+"="+v)
	}
	return env, nil
}

// noPlugin is said of a plugin that people expect to be there; "" of others.
func noPlugin(e *app.Env, name string) string {
	if name != "compose" && name != "buildx" {
		return ""
	}
	return fmt.Sprintf("%[1]s: '%[1]s %[2]s' runs the plugin docker-%[2]s, which is in none of\n  %[3]s\n\nInstall it there; it is the same program as for Docker's client.",
		app.Name, name, strings.Join(pluginDirs(e), "\n  "))
}
