package passwd

import (
	"bytes"
	"errors"
	"slices"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// Limit is how long the files may be, in bytes: they belong to the image.
const Limit = 4 << 20

// User is a resolved user.
type User struct {
	UID, GID uint32
	// Groups are the supplementary groups, the primary one first.
	Groups []uint32
	Home   string
}

// Resolve finds spec, "user[:group]" by name or number or "" for uid 0, and the
// additional groups. read returns a file of the container by its path; one that
// does not exist is like an empty one.
//
// Errors: Invalid, in Docker's words, for a name that is not there.
func Resolve(spec string, groupAdd []string, read func(path string) ([]byte, error)) (*User, error) {
	passwd, err := optional(read, "/etc/passwd")
	if err != nil {
		return nil, err
	}
	group, err := optional(read, "/etc/group")
	if err != nil {
		return nil, err
	}
	u, err := user.GetExecUser(spec, nil, bytes.NewReader(passwd), bytes.NewReader(group))
	if err != nil {
		return nil, errdefs.Invalidf("%w", err)
	}
	// The primary group is among the supplementary ones, so that dropping it by
	// setgid(2) gives no access that a "negative" group permission denies.
	out := &User{UID: uint32(u.Uid), GID: uint32(u.Gid), Groups: make([]uint32, 1, 1+len(u.Sgids)+len(groupAdd)), Home: u.Home}
	out.Groups[0] = out.GID
	add := func(gid uint32) {
		if !slices.Contains(out.Groups, gid) {
			out.Groups = append(out.Groups, gid)
		}
	}
	for _, g := range u.Sgids {
		add(uint32(g))
	}
	if len(groupAdd) > 0 {
		more, err := user.GetAdditionalGroups(groupAdd, bytes.NewReader(group))
		if err != nil {
			return nil, errdefs.Invalidf("%w", err)
		}
		slices.Sort(more)
		for _, g := range more {
			add(uint32(g))
		}
	}
	return out, nil
}

// Home returns the home directory of uid, or "".
func Home(uid uint32, read func(path string) ([]byte, error)) string {
	passwd, err := optional(read, "/etc/passwd")
	if err != nil {
		return ""
	}
	found, err := user.ParsePasswdFilter(bytes.NewReader(passwd), func(u user.User) bool { return u.Uid == int(uid) })
	if err != nil || len(found) == 0 {
		return ""
	}
	return found[0].Home
}

func optional(read func(string) ([]byte, error), path string) ([]byte, error) {
	b, err := read(path)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	return b, err
}
