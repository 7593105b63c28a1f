// Command laded is the daemon of lade, a container engine with Docker's API.
package main

import (
	"context"
	"os"
	"runtime/debug"
	"time"

	"lade/internal/daemon"
	"lade/internal/engine"
	"lade/internal/linux/sys"
)

// version is set by the linker.
var version = "dev"

func main() {
	sys.CalmMonitor(time.Millisecond)
	b := engine.Build{Version: version, Commit: "unknown"} // clients expect something there
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Commit = s.Value
			case "vcs.time":
				if t, err := time.Parse(time.RFC3339, s.Value); err == nil {
					b.Time = t
				}
			}
		}
	}
	os.Exit(daemon.Main(context.Background(), b, os.Args[1:], os.Stdout, os.Stderr))
}
