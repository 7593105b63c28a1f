package app

import (
	"fmt"
	"runtime/debug"
)

// Version is the client's own version, set by the linker.
var Version = "dev"

// Commit is the first seven digits of the commit this program was built from,
// "unknown" without one.
func Commit() string {
	if rev := setting("vcs.revision"); len(rev) >= 7 {
		return rev[:7]
	}
	return "unknown"
}

// VersionLine is what --version prints.
func VersionLine() string { return fmt.Sprintf("%s version %s, build %s", Name, Version, Commit()) }

// CommitTime is when the commit was made, in RFC 3339; empty when unknown.
func CommitTime() string { return setting("vcs.time") }

func setting(key string) string {
	b, ok := debug.ReadBuildInfo()
	if ok {
		for _, s := range b.Settings {
			if s.Key == key {
				return s.Value
			}
		}
	}
	return ""
}
