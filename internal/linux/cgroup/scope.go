package cgroup

import (
	"context"
	"errors"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// Scope names the group of a scope that the service manager makes: the unit
// Prefix-Name.scope below Slice.
//
// Its notation "slice:prefix:name" is taken for a path by every function of
// this package. [Host.Create] does not make such a group: it takes what the
// service manager has made, with the processes in it, and completes it in the
// hierarchies that the service manager does not care for.
//
// Source: systemd.scope(5), systemd.slice(5); runc's docs/systemd.md for the
// notation, which the OCI runtime specification leaves to the runtime.
type Scope struct {
	Slice  string // "" is system.slice
	Prefix string
	Name   string
}

// ParseScope reads the notation. ok says whether s is it; a path, which begins
// with a slash, is not.
func ParseScope(s string) (_ Scope, ok bool) {
	if strings.Contains(s, "/") {
		return Scope{}, false
	}
	f := strings.Split(s, ":")
	if len(f) != 3 || f[2] == "" {
		return Scope{}, false
	}
	if f[0] == "" {
		f[0] = "system.slice"
	}
	return Scope{f[0], f[1], f[2]}, true
}

func isScope(s string) bool {
	_, ok := ParseScope(s)
	return ok
}

// leaveTime is how long the service manager may take to remove the group of a
// scope in which no process is any more.
const leaveTime = 5 * time.Second

// leave removes the group of a scope where the service manager did not make it,
// and waits until that has removed the rest. To be faster would have a price:
// systemd learns that a group is empty from its cgroup.events, and takes the
// unit for a running one for ever when the file is gone before it has looked
// (seen with version 252).
func (g *Group) leave(ctx context.Context) error {
	asked, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	theirs := g.h.unified
	if theirs == nil {
		theirs = g.h.tracking()
	}
	err := retry(asked, func() (bool, error) {
		busy := theirs != nil && theirs.exists(g.path)
		for _, m := range g.h.all() {
			if m == theirs {
				continue
			}
			if err := m.removeTree(g.path); errors.Is(err, unix.EBUSY) {
				busy = true
			} else if err != nil {
				return false, err
			}
		}
		return !busy, nil
	})
	if asked.Err() != nil && ctx.Err() == nil { // the service manager has forgotten it
		return g.remove()
	}
	return err
}

// tracking returns the hierarchy by which the service manager of a host without
// a unified one knows its units: that of version 1 without controllers.
func (h *Host) tracking() *hierarchy {
	for _, m := range h.v1 {
		if len(m.controllers) == 0 {
			return m
		}
	}
	return nil
}

// String is the notation that ParseScope reads.
func (s Scope) String() string { return s.Slice + ":" + s.Prefix + ":" + s.Name }

// Unit is the name of the unit.
func (s Scope) Unit() string {
	if s.Prefix == "" {
		return s.Name + ".scope"
	}
	return s.Prefix + "-" + s.Name + ".scope"
}

// Path is where the group is: a slice is below those that its name has before
// each dash. Errors: Invalid if Slice does not name a slice.
func (s Scope) Path() (string, error) {
	name, ok := strings.CutSuffix(s.Slice, ".slice")
	if !ok || name == "" || strings.ContainsAny(name, "/:\x00\n") || name != "-" && (strings.HasPrefix(name, "-") || strings.HasSuffix(name, "-") || strings.Contains(name, "--")) {
		return "", errdefs.Invalidf("invalid slice name: %s", s.Slice)
	}
	if strings.ContainsAny(s.Unit(), "/\x00\n") {
		return "", errdefs.Invalidf("invalid unit name: %s", s.Unit())
	}
	dir := "/"
	if name != "-" { // the root slice
		for i, c := range name {
			if c == '-' {
				dir = path.Join(dir, name[:i]+".slice")
			}
		}
		dir = path.Join(dir, s.Slice)
	}
	return path.Join(dir, s.Unit()), nil
}
