package system

import "lade/internal/cli/app"

// Group is the group of commands on the engine.
func Group() app.Command {
	return app.Command{Use: "system", Short: "Manage Docker", Sub: []app.Command{
		{Use: "df [OPTIONS]", Short: "Show docker disk usage", Args: app.None(), Build: buildUsage},
		{Use: "dial-stdio", Short: "Proxy the stdio stream to the daemon connection. Should not be invoked manually.", Hidden: true, Args: app.None(), Build: buildDial},
		{Use: "events [OPTIONS]", Short: "Get real time events from the server", Args: app.None(), Paths: []string{"system events", "events"}, Build: buildEvents},
		{Use: "info [OPTIONS]", Short: "Display system-wide information", Args: app.None(), Paths: []string{"system info", "info"}, Top: 12, Build: buildInfo},
		{Use: "install [OPTIONS]", Short: "Install the programs beside this one, and the units of systemd", Own: true, Args: app.None(), Build: buildInstall},
		{Use: "prune [OPTIONS]", Short: "Remove unused data", Args: app.None(), Build: buildPrune},
		{Use: "reclaim [OPTIONS]", Short: "Remove what was not used for longest, by the policy for the disk", Args: app.None(), Build: buildReclaim},
		{Use: "shutdown [OPTIONS]", Short: "Stop all containers, until the engine is started again", Own: true, Args: app.None(), Build: buildShutdown},
	}}
}

// Commands are those without a group.
func Commands() []app.Command {
	return []app.Command{
		{Use: "inspect [OPTIONS] NAME|ID [NAME|ID...]", Short: "Return low-level information on Docker objects", Args: app.AtLeast(1), Build: buildInspect},
		{Use: "version [OPTIONS]", Short: "Show the Docker version information", Args: app.None(), Top: 11, Build: buildVersion},
	}
}
