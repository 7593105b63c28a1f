// Package cli is the client lade: Docker's commands, flags, output and exit
// codes, over the engine's API.
//
// Main finds the command by name, lets only that one build its flags (cobra and
// pflag), runs it, and turns its error into words and an exit code. The commands
// themselves are in command/…, a package for each kind of object; the flags'
// grammars in opt, output in format, progress and terminal.
//
// Exit codes: 0; 1 for errors; 125 for errors of the client or the engine before
// a container ran and for bad flags; 126 and 127 when the command cannot be
// executed or found; otherwise the container's own; 128+n when signal n ended
// the client.
//
// Source: docs.docker.com/reference/cli/docker, behaviour of Docker's client 28.2.
package cli
