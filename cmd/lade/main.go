// Command lade is the client: Docker's command line for the engine laded.
//
// Source: docs.docker.com/reference/cli/docker.
package main

import (
	"os"

	"lade/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args, os.Stdin, os.Stdout, os.Stderr)) }
