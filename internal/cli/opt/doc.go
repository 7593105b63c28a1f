// Package opt holds the grammars of the client's flags: lists, sizes, filters,
// mounts, networks, devices, ports, limits, and the files of variables.
//
// Every type here is a pflag.Value whose Type is the word that help shows, and
// whose Set rejects what Docker rejects, in Docker's words: scripts match them.
//
// Sources: docs.docker.com/reference/cli/docker/container/run, docker/cli's
// observable behaviour (version 28.2), go-units for sizes.
//
// Nothing here talks to an engine. Values are not safe for concurrent use.
package opt
