package selinux

import (
	"strings"

	"lade/internal/errdefs"
)

// Context is a security context. Level is empty where the policy has none.
type Context struct{ User, Role, Type, Level string }

// Parse reads a context as the kernel writes it: "user:role:type" or
// "user:role:type:level", in which the level has colons of its own. Errors:
// Invalid.
func Parse(s string) (Context, error) {
	f := strings.SplitN(strings.TrimRight(s, "\x00\n"), ":", 4)
	if len(f) < 3 || f[0] == "" || f[1] == "" || f[2] == "" || strings.ContainsAny(s, " \t\"\\") {
		return Context{}, errdefs.Invalidf("invalid SELinux context %q: want user:role:type:level", s)
	}
	c := Context{User: f[0], Role: f[1], Type: f[2]}
	if len(f) == 4 {
		if c.Level = f[3]; c.Level == "" {
			return Context{}, errdefs.Invalidf("invalid SELinux context %q: the level is empty", s)
		}
	}
	return c, nil
}

// String returns the context as the kernel takes it.
func (c Context) String() string {
	s := c.User + ":" + c.Role + ":" + c.Type
	if c.Level != "" {
		s += ":" + c.Level
	}
	return s
}

// Shared returns the context without categories: what every container may use.
func (c Context) Shared() Context {
	c.Level, _, _ = strings.Cut(c.Level, ":")
	return c
}
