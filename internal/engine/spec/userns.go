package spec

import (
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
	"lade/internal/linux/idmap"
)

// Annotations by which clients that check `--userns` themselves, as docker
// does, can ask for what Docker does not have.
const (
	UserAnnotation = "lade.userns"
	TimeAnnotation = "lade.time-offset"
)

// UserMode is what --userns asks for.
type UserMode struct {
	Kind UserKind
	// UID and GID are those that keep-id keeps, if Named, or where remap begins.
	UID, GID uint32
	Named    bool
	Size     uint32 // of remap, of auto
}

// UserKind is the kind of a UserMode.
type UserKind uint8

// The kinds of user namespaces.
const (
	UserDefault UserKind = iota // the daemon's default
	UserHost                    // the host's
	UserAuto                    // ids that nobody else has
	UserKeep                    // the same, but one user is the same outside
	UserRemap                   // the ids that are named
)

// AutoSize is how many ids a user namespace has by itself.
const AutoSize = 1 << 16

// ParseUser reads a mode: "", "host", "auto[:SIZE]", "keep-id[:UID:GID]" or
// "remap:UID:GID:SIZE". Errors: Invalid.
func ParseUser(mode string) (m UserMode, err error) {
	bad := errdefs.Invalidf("invalid user namespace mode: %v", mode)
	kind, rest, more := strings.Cut(mode, ":")
	var n []uint32
	for part := range strings.SplitSeq(rest, ":") {
		if !more {
			break
		}
		v, err := strconv.ParseUint(part, 10, 32)
		if err != nil {
			return m, bad
		}
		n = append(n, uint32(v))
	}
	switch {
	case mode == "":
	case mode == "host":
		m.Kind = UserHost
	case kind == "auto" && len(n) <= 1:
		m.Kind, m.Size = UserAuto, AutoSize
		if len(n) == 1 {
			m.Size = n[0]
		}
		if m.Size == 0 || m.Size > 1<<24 {
			return m, bad
		}
	case kind == "keep-id" && len(n) == 0:
		m.Kind = UserKeep
	case kind == "keep-id" && len(n) == 2:
		m = UserMode{Kind: UserKeep, UID: n[0], GID: n[1], Named: true}
	case kind == "remap" && len(n) == 3:
		m = UserMode{Kind: UserRemap, UID: n[0], GID: n[1], Size: n[2]}
		if idmap.Range(m.UID, m.GID, m.Size).Check() != nil {
			return m, bad
		}
	default:
		return m, bad
	}
	return m, nil
}

// CheckUser refuses what a container with a user namespace cannot have, in
// Docker's words. Errors: Invalid.
func CheckUser(hc *container.HostConfig) error {
	switch {
	case hc.Privileged:
		return errdefs.Invalidf("privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode")
	case hc.NetworkMode.IsHost():
		return errdefs.Invalidf("cannot share the host's network namespace when user namespaces are enabled")
	case hc.PidMode.IsHost():
		return errdefs.Invalidf("cannot share the host PID namespace when user namespaces are enabled")
	}
	return nil
}

// OwnsNetwork reports whether a container asks for capabilities that count only
// in a network namespace that belongs to its user namespace.
//
// Source: user_namespaces(7), "Interaction of user namespaces and other types
// of namespaces".
func OwnsNetwork(hc *container.HostConfig) bool {
	for _, c := range hc.CapAdd {
		switch strings.TrimPrefix(strings.ToUpper(c), "CAP_") {
		case "ALL", "NET_ADMIN", "NET_RAW", "SYS_ADMIN":
			return true
		}
	}
	return false
}
