// Package client finds and opens the connection between a command line and an
// engine: which host is meant (flags, environment, contexts, the default
// sockets), how it is reached (unix socket, TCP with or without TLS, ssh), and,
// where nothing answers on a machine that is ours, starts the engine.
//
// The transport is github.com/moby/moby/client; this package only decides where
// it dials. It also reads and writes the files that Docker's client keeps in
// ~/.docker: config.json (credentials, current context, formats) and the store
// of contexts.
//
// Order of choice, first match wins:
//
//	--host | --context            flags; both together are an error
//	LADE_HOST, LADE_CONTEXT       environment
//	DOCKER_HOST, DOCKER_CONTEXT   environment
//	currentContext                config.json
//	unix:///var/run/lade.sock     the default; then unix:///var/run/docker.sock
//
// Only the last row starts a daemon, and only for root, see Start.
//
// Sources: docker/cli docs/reference/commandline/cli.md ("Environment
// variables", "Configuration files"), docs.docker.com/engine/manage-resources/contexts,
// unix(7), inotify(7).
//
// Values of this package may be used by several goroutines once made. Files are
// replaced by rename, so a crash leaves the old or the new one.
package client
