package app

import (
	"fmt"
	"runtime/debug"
)

// Version is the client's own version.
const Version = "0.1.0"

// Commit is the first seven digits of the commit this program was built from,
// "unknown" without one.
func Commit() string {
	b, ok := debug.ReadBuildInfo()
	if ok {
		for _, s := range b.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 7 {
				return s.Value[:7]
			}
		}
	}
	return "unknown"
}

// VersionLine is what --version prints.
func VersionLine() string { return fmt.Sprintf("%s version %s, build %s", Name, Version, Commit()) }
