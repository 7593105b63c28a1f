package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"lade/internal/cli/app"
)

// example is a line that people can copy, and what it does.
type example struct{ what, line string }

// examplesOf are those of a command, under whichever of its paths it is called.
func (r *root) examplesOf(c *cobra.Command) []example {
	all := examples()
	path := strings.TrimPrefix(c.CommandPath(), app.Name+" ")
	if e := all[path]; e != nil {
		return e
	}
	if s := r.specs[c]; s != nil {
		for _, p := range s.Paths {
			if e := all[p]; e != nil {
				return e
			}
		}
	}
	return nil
}

// examples are shown by --help and in the manual pages. A test parses each line.
func examples() map[string][]example {
	return map[string][]example{
		"attach": {{"Attach, and leave with ctrl-p ctrl-q", "attach web"}},
		"commit": {{"Make an image of a container's files", "commit -m 'with tools' web tools:1"}},
		"config create": {
			{"Keep a file for containers", "config create nginx.conf ./nginx.conf"},
		},
		"context create": {
			{"Reach another machine by ssh", "context create far --docker host=ssh://user@far.example"},
		},
		"context use": {{"Use it from now on", "context use far"}},
		"cp": {
			{"Copy a directory into a container", "cp ./site web:/usr/share/nginx/html"},
			{"Copy a file out, to the standard output as tar", "cp web:/etc/nginx/nginx.conf -"},
		},
		"create": {{"Create without starting", "create --name web -p 8080:80 nginx"}},
		"diff":   {{"What did the container change?", "diff web"}},
		"events": {
			{"What ended by an error in the last hour", "events --since 1h --until 0s --filter event=die"},
			{"As JSON, a line each", "events --format json"},
		},
		"exec": {
			{"A shell in a running container", "exec -it web sh"},
			{"As root, in a directory", "exec -u 0 -w /etc web ls"},
		},
		"export":  {{"The files of a container as a tar archive", "export -o web.tar web"}},
		"history": {{"Where the size of an image comes from", "history --no-trunc nginx"}},
		"images": {
			{"Images that no container names any more", "images --filter dangling=true"},
			{"Names and sizes", "images --format 'table {{.Repository}}\\t{{.Tag}}\\t{{.Size}}'"},
		},
		"import": {{"Make an image of a root file system", "import rootfs.tar mine:1"}},
		"info":   {{"One field", "info --format '{{.Driver}}'"}},
		"inspect": {
			{"One field", "inspect --format '{{.State.Status}}' web"},
			{"A field whose name is no word", `inspect --format '{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}' web`},
		},
		"kill":  {{"Let a server read its configuration again", "kill -s HUP web"}},
		"load":  {{"Load images from an archive", "load -i images.tar"}},
		"login": {{"Without the password on the command line", "login -u me --password-stdin registry.example"}},
		"logs": {
			{"Follow from the last ten lines on", "logs -f -n 10 web"},
			{"Several containers together", "logs -f web db cache"},
			{"Errors of the last hour", "logs --since 1h --grep 'error|panic' web"},
		},
		"network connect": {{"Under a second name", "network connect --alias db backend database"}},
		"network create":  {{"With a subnet of one's own", "network create --subnet 10.20.0.0/24 backend"}},
		"port":            {{"Where port 80 is published", "port web 80"}},
		"ps": {
			{"All, also those that ended", "ps -a"},
			{"Names and states", "ps --format 'table {{.Names}}\\t{{.Status}}'"},
			{"Ids of the unhealthy", "ps -q --filter health=unhealthy"},
		},
		"pull":   {{"For another platform", "pull --platform linux/arm64 nginx"}},
		"push":   {{"To a registry of one's own", "push registry.example/team/app:1"}},
		"rename": {{"Give another name", "rename web web-old"}},
		"rm":     {{"Stop and remove, with anonymous volumes", "rm -f -v web"}},
		"run": {
			{"A shell in a new container that is removed afterwards", "run --rm -it debian bash"},
			{"A server in the background, on port 8080, with at most 256 MB", "run -d --name web -p 8080:80 -m 256m nginx"},
			{"With a secret in /run/secrets/db", "run -d --secret db --restart unless-stopped app"},
			{"A directory of the host, read-only", "run --rm -v \"$PWD:/src:ro\" -w /src golang go vet ./..."},
		},
		"save": {{"Several images in one archive", "save -o images.tar nginx redis"}},
		"secret create": {
			{"From a pipe, so that it is in no file", "secret create db -"},
			{"From a file", "secret create tls.key ./key.pem"},
		},
		"start":          {{"Start, and show the output", "start -a job"}},
		"stats":          {{"Once, for scripts", "stats --no-stream --format '{{.Name}} {{.MemPerc}}'"}},
		"stop":           {{"Give it a minute", "stop -t 60 db"}},
		"system df":      {{"What takes the space", "system df -v"}},
		"system prune":   {{"Remove what nobody uses, without asking", "system prune -a -f"}},
		"system reclaim": {{"What would be removed", "system reclaim --dry-run"}},
		"tag":            {{"For a registry", "tag app registry.example/team/app:1"}},
		"top":            {{"Processes with their threads", "top web -eLf"}},
		"update": {
			{"More memory, at once", "update -m 1g web"},
			{"One more directory, at once", "update --mount-add type=bind,src=/srv/media,dst=/media,readonly web"},
			{"Start again when the health check fails", "update --restart on-unhealthy:3 web"},
		},
		"volume create": {{"A share of a server", "volume create -o type=nfs -o o=addr=10.0.0.1 -o device=:/data shared"}},
		"volume export": {{"A backup", "volume export -o data.tar data"}},
		"wait":          {{"Wait for the end, and print the exit code", "wait job"}},
		"why-died":      {{"Why did it end?", "why-died web"}},
	}
}

// writeExamples adds them to a command's help.
func (r *root) writeExamples(b *strings.Builder, c *cobra.Command) {
	all := r.examplesOf(c)
	if len(all) == 0 {
		return
	}
	b.WriteString("\nExamples:\n")
	for i, e := range all {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString("  # " + e.what + "\n  " + app.Name + " " + e.line + "\n")
	}
}
