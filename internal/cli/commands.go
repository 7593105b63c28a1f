package cli

import (
	"strings"

	"lade/internal/cli/app"
	"lade/internal/cli/command/container"
	"lade/internal/cli/command/contexts"
	"lade/internal/cli/command/image"
	"lade/internal/cli/command/network"
	"lade/internal/cli/command/registry"
	"lade/internal/cli/command/secret"
	"lade/internal/cli/command/system"
	"lade/internal/cli/command/volume"
)

// commands are the groups and, beside them, every command that may be called
// without naming its group.
func commands() []app.Command {
	all := []app.Command{
		container.Group(), contexts.Group(), image.Group(), network.Group(), system.Group(), volume.Group(),
	}
	all = append(all, secret.Groups()...)
	for _, c := range image.Group().Sub {
		if c.Name() == "build" {
			all = append(all, system.Builder(c))
		}
	}
	for _, group := range all[:len(all):len(all)] {
		for i := range group.Sub {
			c := &group.Sub[i]
			for _, p := range c.Paths {
				if p = strings.TrimSpace(p); strings.Contains(p, " ") {
					_, name, _ := strings.Cut(p, " ")
					if name != c.Name() {
						c.Aliases = append(c.Aliases, name)
					}
					continue
				}
				// "ls" of a group is "ps" or "images" at the top.
				short := *c
				short.Use = p + strings.TrimPrefix(c.Use, c.Name())
				short.Aliases = nil
				if p == "images" {
					short.Build = image.Images
				}
				all = append(all, short)
			}
		}
	}
	return append(append(all, registry.Commands()...), system.Commands()...)
}
