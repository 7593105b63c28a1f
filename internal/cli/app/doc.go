// Package app is what every command of the client shares: the environment it
// runs in (streams, configuration, the engine), how it declares itself, and how
// it ends.
//
// A Command is data; its flags are made by Build, which only runs for the
// command that was asked for, so that starting the client costs what one command
// costs.
//
// Source: docs.docker.com/reference/cli/docker for words and exit codes.
//
// An Env belongs to one invocation. Its methods may be called by several
// goroutines after the first call of API.
package app
