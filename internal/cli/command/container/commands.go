package container

import (
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
)

// Group is the group of commands on containers.
func Group() app.Command {
	c := func(use, short string, args app.Args, build func(*app.Env, *pflag.FlagSet) app.Run) app.Command {
		cmd := app.Command{Use: use, Short: short, Args: args, Build: build}
		cmd.Paths = []string{"container " + cmd.Name(), cmd.Name()}
		return cmd
	}
	top := func(cmd app.Command, place int) app.Command { cmd.Top = place; return cmd }
	own := func(cmd app.Command) app.Command { cmd.Own = true; return cmd }
	more := func(cmd app.Command) app.Command { cmd.More = true; return cmd }
	ls := top(c("ls [OPTIONS]", "List containers", app.None(), buildList), 3)
	ls.Paths = []string{"container ls", "container list", "container ps", "ps"}
	rm := c("rm [OPTIONS] CONTAINER [CONTAINER...]", "Remove one or more containers", app.AtLeast(1), buildRemove)
	rm.Paths = []string{"container rm", "container remove", "rm"}
	return app.Command{Use: "container", Short: "Manage containers", Sub: []app.Command{
		c("attach [OPTIONS] CONTAINER", "Attach local standard input, output, and error streams to a running container", app.Exactly(1), buildAttach),
		c("commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]", "Create a new image from a container's changes", app.Between(1, 2), buildCommit),
		copyCommand(),
		c("create [OPTIONS] IMAGE [COMMAND] [ARG...]", "Create a new container", app.AtLeast(1), buildCreate),
		c("diff CONTAINER", "Inspect changes to files or directories on a container's filesystem", app.Exactly(1), buildDiff),
		top(c("exec [OPTIONS] CONTAINER COMMAND [ARG...]", "Execute a command in a running container", app.AtLeast(2), buildExec), 2),
		c("export [OPTIONS] CONTAINER", "Export a container's filesystem as a tar archive", app.Exactly(1), buildExport),
		{Use: "inspect [OPTIONS] CONTAINER [CONTAINER...]", Short: "Display detailed information on one or more containers", Args: app.AtLeast(1), Build: buildInspect},
		c("kill [OPTIONS] CONTAINER [CONTAINER...]", "Kill one or more running containers", app.AtLeast(1), buildKill),
		more(c("logs [OPTIONS] CONTAINER", "Fetch the logs of a container", app.Exactly(1), buildLogs)),
		ls,
		c("pause CONTAINER [CONTAINER...]", "Pause all processes within one or more containers", app.AtLeast(1), buildPause),
		c("port CONTAINER [PRIVATE_PORT[/PROTO]]", "List port mappings or a specific mapping for the container", app.Between(1, 2), buildPort),
		{Use: "prune [OPTIONS]", Short: "Remove all stopped containers", Args: app.None(), Build: buildPrune},
		c("rename CONTAINER NEW_NAME", "Rename a container", app.Exactly(2), buildRename),
		c("restart [OPTIONS] CONTAINER [CONTAINER...]", "Restart one or more containers", app.AtLeast(1), buildStop(true)),
		rm,
		top(c("run [OPTIONS] IMAGE [COMMAND] [ARG...]", "Create and run a new container from an image", app.AtLeast(1), buildRun), 1),
		c("start [OPTIONS] CONTAINER [CONTAINER...]", "Start one or more stopped containers", app.AtLeast(1), buildStart),
		c("stats [OPTIONS] [CONTAINER...]", "Display a live stream of container(s) resource usage statistics", app.AtLeast(0), buildStats),
		c("stop [OPTIONS] CONTAINER [CONTAINER...]", "Stop one or more running containers", app.AtLeast(1), buildStop(false)),
		c("top CONTAINER [ps OPTIONS]", "Display the running processes of a container", app.AtLeast(1), buildTop),
		c("unpause CONTAINER [CONTAINER...]", "Unpause all processes within one or more containers", app.AtLeast(1), buildUnpause),
		c("update [OPTIONS] CONTAINER [CONTAINER...]", "Update configuration of one or more containers", app.AtLeast(1), buildUpdate),
		own(c("why-died [OPTIONS] CONTAINER", "Show what is known of a container's end", app.Exactly(1), buildWhyDied)),
		c("wait CONTAINER [CONTAINER...]", "Block until one or more containers stop, then print their exit codes", app.AtLeast(1), buildWait),
	}}
}
