package complete

import (
	"context"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	moby "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"lade/internal/cli/app"
)

// Command makes cobra complete the arguments and flags of c, which spec
// declares. Its flags must have been built.
func Command(e *app.Env, c *cobra.Command, spec *app.Command) {
	if args := arguments(spec); args != nil {
		c.ValidArgsFunction = func(c *cobra.Command, given []string, typed string) ([]string, cobra.ShellCompDirective) {
			return answer(c.Context(), e, args(len(given)), given, typed)
		}
	}
	completeFlags(e, c)
}

func completeFlags(e *app.Env, c *cobra.Command) {
	for name, s := range flags() {
		if c.Flags().Lookup(name) != nil {
			// It fails for a flag that has a completion already, which is then as good.
			_ = c.RegisterFlagCompletionFunc(name, func(c *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
				return answer(c.Context(), e, s, nil, typed)
			})
		}
	}
}

// answer asks a source. Without one, and where a path is typed, the shell
// completes files.
func answer(ctx context.Context, e *app.Env, s Source, given []string, typed string) ([]string, cobra.ShellCompDirective) {
	if s == nil || local(typed) {
		return nil, cobra.ShellCompDirectiveDefault
	}
	if ctx == nil {
		ctx = context.Background()
	}
	out := s(ctx, e, typed)
	out = slices.DeleteFunc(out, func(w string) bool {
		word, _, _ := strings.Cut(w, "\t")
		return !strings.HasPrefix(word, typed) || slices.Contains(given, word)
	})
	directive := cobra.ShellCompDirectiveNoFileComp
	if slices.ContainsFunc(names(out), func(w string) bool { return strings.HasSuffix(w, ":") || strings.HasSuffix(w, "=") }) {
		directive |= cobra.ShellCompDirectiveNoSpace
	}
	return out, directive
}

// arguments returns the source of the i-th argument of a command, read from its
// usage line; nil when the shell should complete files.
func arguments(spec *app.Command) func(i int) Source {
	if spec.Sub != nil {
		return nil
	}
	line, _, _ := strings.Cut(spec.Use, "\n")
	var list []string
	for _, w := range strings.Fields(line)[1:] {
		if w != "[OPTIONS]" && w != "|" {
			list = append(list, strings.Trim(w, "[]"))
		}
	}
	switch name := spec.Name(); {
	case name == "cp":
		return func(int) Source { return containerPaths() }
	case name == "import", name == "create" && !strings.Contains(line, "IMAGE"):
		return nil // the name of what is not there yet, and files
	}
	return func(i int) Source {
		if len(list) == 0 {
			return words()
		}
		w := list[min(i, len(list)-1)]
		if i >= len(list) && !strings.HasSuffix(w, "...") && !spec.More {
			return words()
		}
		return object(strings.TrimSuffix(w, "..."), spec.Name())
	}
}

// object is the source of what the word of a usage line stands for.
func object(word, command string) Source {
	end := strings.IndexFunc(word, func(r rune) bool { return (r < 'A' || r > 'Z') && r != '_' && r != '|' })
	if end >= 0 {
		word = word[:end]
	}
	switch strings.TrimSuffix(word, "]") {
	case "CONTAINER":
		return containers(states(command)...)
	case "IMAGE", "SOURCE_IMAGE", "REPOSITORY":
		return images()
	case "NAME":
		return images()
	case "NAME|ID":
		return either(containers(), images(), volumes(), networks())
	case "VOLUME":
		return volumes()
	case "NETWORK":
		return networks()
	case "SECRET":
		return secrets()
	case "CONFIG":
		return configs()
	case "CONTEXT":
		return contexts()
	case "COMMAND", "ARG", "PATH", "FILE", "file", "": // of the container, or of this machine
		return nil
	}
	return words()
}

// states are those in which a command does something with a container.
func states(command string) []container.ContainerState {
	switch command {
	case "start":
		return []container.ContainerState{container.StateCreated, container.StateExited, container.StateDead}
	case "attach", "exec", "kill", "pause", "port", "stats", "top", "disconnect":
		return []container.ContainerState{container.StateRunning}
	case "stop", "wait":
		return []container.ContainerState{container.StateRunning, container.StatePaused, container.StateRestarting}
	case "unpause":
		return []container.ContainerState{container.StatePaused}
	}
	return nil
}

// containerPaths completes "NAME:" for cp; what follows is the container's.
func containerPaths() Source {
	return func(ctx context.Context, e *app.Env, typed string) (out []string) {
		if strings.Contains(typed, ":") {
			return nil
		}
		for _, n := range names(containers()(ctx, e, typed)) {
			out = append(out, n+":")
		}
		return out
	}
}

// flags are the sources of flags by name, whatever the command.
func flags() map[string]Source {
	return map[string]Source{
		"annotation":        words("lade.configs=", "lade.health-on-failure=", "lade.idmap.", "lade.net-rate-in=", "lade.net-rate-out=", "lade.secrets=", "lade.userns="),
		"attach":            words("stdin", "stdout", "stderr"),
		"cap-add":           either(words("ALL"), words(capabilities()...)),
		"cap-drop":          either(words("ALL"), words(capabilities()...)),
		"cgroupns":          words("host", "private"),
		"config":            configs(),
		"context":           contexts(),
		"driver":            words("bridge", "host", "ipvlan", "local", "macvlan", "none", "overlay"),
		"env":               variables(),
		"format":            words("json", "table"),
		"health-on-failure": words("kill", "none", "restart", "stop"),
		"ipc":               either(words("host", "none", "private", "shareable"), after("container:", containers(container.StateRunning))),
		"link":              containers(container.StateRunning),
		"log-driver":        info(func(i *moby.SystemInfoResult) []string { return i.Info.Plugins.Log }),
		"log-level":         words("debug", "info", "warn", "error", "fatal"),
		"network":           either(networks(), after("container:", containers(container.StateRunning))),
		"pid":               either(words("host"), after("container:", containers(container.StateRunning))),
		"platform":          words("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/386", "linux/ppc64le", "linux/riscv64", "linux/s390x"),
		"pull":              words("always", "missing", "never"),
		"restart":           words("always", "no", "on-failure", "on-unhealthy", "unless-stopped"),
		"runtime":           info(runtimes),
		"secret":            secrets(),
		"security-opt":      words("apparmor=", "label=", "nesting=true", "no-new-privileges", "seccomp=", "systempaths=unconfined"),
		"signal":            words("HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "TERM", "CONT", "STOP", "WINCH"),
		"stop-signal":       words("HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "TERM"),
		"type":              words("config", "container", "image", "network", "secret", "volume"),
		"ulimit":            words("core=", "cpu=", "fsize=", "memlock=", "nofile=", "nproc=", "stack="),
		"userns":            words("auto", "host", "keep-id", "remap:"),
		"uts":               words("host"),
		"volume":            volumes(),
		"volumes-from":      containers(),
	}
}

func runtimes(i *moby.SystemInfoResult) (out []string) {
	for name := range i.Info.Runtimes {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// capabilities are those of capabilities(7), as --cap-add takes them.
func capabilities() []string {
	return strings.Fields("AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID " +
		"IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON " +
		"SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM")
}

// Root makes cobra complete the global flags.
func Root(e *app.Env, c *cobra.Command) { completeFlags(e, c) }
