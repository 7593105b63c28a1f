package layer

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/linux/xattr"
)

// stack is the union of the directories of an overlay, top first, seen without
// mounting it. Attributes are read under one name space of overlay's, trusted
// or user.
type stack struct {
	fds    []int
	opaque string // name of the attribute of opaque directories
}

// overlayXattr returns the prefix of overlay's own attributes.
func overlayXattr(user bool) string {
	if user {
		return "user.overlay."
	}
	return "trusted.overlay."
}

func openStack(dirs []string, user bool) (*stack, error) {
	s := &stack{opaque: overlayXattr(user) + "opaque"}
	for _, d := range dirs {
		fd, err := unix.Open(d, dirFlags, 0)
		if err != nil {
			return nil, errors.Join(pathError("open", d, err), s.close())
		}
		s.fds = append(s.fds, fd)
	}
	return s, nil
}

func (s *stack) close() error {
	var err error
	for _, fd := range s.fds {
		err = errors.Join(err, unix.Close(fd))
	}
	return err
}

// found is an entry of the union: the state of the topmost file of that name.
type found struct {
	st    unix.Stat_t
	layer int // index in the stack
}

// lookup finds the clean relative path name, whose parents must not be links.
// It reports false when the union has no such entry.
func (s *stack) lookup(name string) (found, bool, error) {
	for i, fd := range s.fds {
		st, end, err := s.lookupIn(fd, name)
		if err != nil || end == here {
			return found{st, i}, err == nil, err
		}
		if end == hidden {
			return found{}, false, nil
		}
	}
	return found{}, false, nil
}

// How the search of one layer ended.
const (
	below  = iota // not in this layer; the next one decides
	here          // found
	hidden        // this layer hides the name
)

// lookupIn looks for name in the layer fd, step by step, because each
// directory on the way may hide the layers below.
func (s *stack) lookupIn(fd int, name string) (st unix.Stat_t, end int, err error) {
	missing := below // what a missing entry means
	dir := fd
	defer func() {
		if dir != fd {
			unix.Close(dir)
		}
	}()
	for rest := name; ; {
		part, more, deeper := strings.Cut(rest, "/")
		st, err = lstat(dir, part)
		switch {
		case errors.Is(err, unix.ENOENT):
			return st, missing, nil
		case err != nil:
			return st, 0, err
		case isWhiteout(&st):
			return st, hidden, nil
		case !deeper:
			return st, here, nil
		case !isDir(&st):
			return st, hidden, nil
		}
		next, err := unix.Openat(dir, part, dirFlags|unix.O_NOFOLLOW, 0)
		if err != nil {
			return st, 0, pathError("openat", name, err)
		}
		if dir != fd {
			unix.Close(dir)
		}
		dir, rest = next, more
		if s.isOpaque(dir, "") {
			missing = hidden
		}
	}
}

// isOpaque reports whether name in the directory fd hides the layers below.
func (s *stack) isOpaque(fd int, name string) bool {
	v, err := xattr.GetAt(fd, name, s.opaque)
	return err == nil && string(v) == "y"
}
