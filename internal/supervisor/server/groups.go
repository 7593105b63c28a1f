package server

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"lade/internal/errdefs"
	"lade/internal/supervisor/wire"
)

// Two notes on the tmpfs outlive a supervisor that is killed:
//
//	<root>/groups/<container>  a symbolic link that holds the path of its control
//	                           group, from before its first process until the group
//	                           is removed
//	<root>/parents             the groups above those that were not there before
//	                           us, one a line
//
// By the first, the daemon finds the processes of a container that no
// supervisor knows, whatever was or was not recorded of it; Welcome tells. By
// the second, the last supervisor leaves no empty group behind. A group above
// that a container has asked for goes with the last container in it.

func (s *Server) groupDir() string    { return filepath.Join(s.o.Root, "groups") }
func (s *Server) parentsFile() string { return filepath.Join(s.o.Root, "parents") }

// loadGroups reads the notes.
func (s *Server) loadGroups() error {
	s.groups, s.parents = map[string]string{}, map[string]bool{}
	if err := os.MkdirAll(s.groupDir(), 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.groupDir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if s.groups[e.Name()], err = os.Readlink(filepath.Join(s.groupDir(), e.Name())); err != nil {
			return err
		}
	}
	raw, err := os.ReadFile(s.parentsFile())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for line := range strings.FieldsFuncSeq(string(raw), func(r rune) bool { return r == '\n' }) {
		s.parents[line] = true
	}
	return nil
}

// noteGroups writes all notes again.
func (s *Server) noteGroups() error {
	if err := os.MkdirAll(s.groupDir(), 0o700); err != nil {
		return err
	}
	var errs []error
	for id, group := range s.groups {
		if err := os.Symlink(group, filepath.Join(s.groupDir(), id)); !errors.Is(err, fs.ErrExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, s.writeParents())...)
}

// writeParents writes the note of the parents that are ours again.
func (s *Server) writeParents() error {
	var lines strings.Builder
	for dir, made := range s.parents {
		if made {
			lines.WriteString(dir + "\n")
		}
	}
	if lines.Len() > 0 {
		return os.WriteFile(s.parentsFile(), []byte(lines.String()), 0o600)
	}
	if err := os.Remove(s.parentsFile()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// noteGroup notes where the processes of a container are going to be.
func (s *Server) noteGroup(id, group string) error {
	if group == "" || s.groups[id] == group {
		return nil
	}
	s.noteParents(group)
	s.dropGroup(id)
	if err := os.Symlink(group, filepath.Join(s.groupDir(), id)); err != nil {
		return err
	}
	s.groups[id] = group
	return nil
}

// dropGroup is called when a container's group is gone.
func (s *Server) dropGroup(id string) {
	if _, there := s.groups[id]; !there {
		return
	}
	group := s.groups[id]
	delete(s.groups, id)
	if err := os.Remove(filepath.Join(s.groupDir(), id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("note of a control group", "container", id, "error", err)
	}
	if s.askedFor[id] {
		delete(s.askedFor, id)
		s.removeUnused(group)
	}
}

// dropGone is called after a start or a clean-up that failed, which has removed the
// group. If it could not, the daemon does.
func (s *Server) dropGone(id string) {
	if s.o.Cgroup == nil {
		s.dropGroup(id)
	} else if _, err := s.o.Cgroup(s.groups[id]); err != nil {
		s.dropGroup(id)
	}
}

// stray returns the groups of containers that we do not have.
func (s *Server) stray() []wire.Group {
	var all []wire.Group
	for id, group := range s.groups {
		_, cleaning := s.cleaning[id]
		if s.containers[id] == nil && !cleaning {
			all = append(all, wire.Group{ID: id, Cgroup: group})
		}
	}
	return all
}

// noteParents notes which of the groups above a new one are not there yet.
func (s *Server) noteParents(group string) {
	if s.o.Cgroup == nil {
		return
	}
	for dir := path.Dir(path.Clean("/" + group)); dir != "/"; dir = path.Dir(dir) {
		if _, known := s.parents[dir]; known {
			continue
		}
		_, err := s.o.Cgroup(dir)
		if s.parents[dir] = errors.Is(err, errdefs.NotFound); !s.parents[dir] {
			continue
		}
		f, err := os.OpenFile(s.parentsFile(), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err == nil {
			_, err = f.WriteString(dir + "\n")
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			s.log.Warn("note of a parent control group", "group", dir, "error", err)
		}
	}
}

// removeUnused removes the groups above a container's that were made for it, and
// in which there is no other container now. The daemon's own parent, which the
// next container needs, is not asked for.
func (s *Server) removeUnused(group string) {
	changed := false
	for dir := path.Dir(path.Clean("/" + group)); s.parents[dir]; dir = path.Dir(dir) {
		if s.inUse(dir) {
			break
		}
		s.removeParent(dir)
		delete(s.parents, dir)
		changed = true
	}
	if !changed {
		return
	}
	if err := s.writeParents(); err != nil {
		s.log.Warn("note of parent control groups", "error", err)
	}
}

// inUse reports whether a container has its group below dir.
func (s *Server) inUse(dir string) bool {
	for _, group := range s.groups {
		if strings.HasPrefix(path.Clean("/"+group), dir+"/") {
			return true
		}
	}
	return false
}

// removeParent removes a group if nothing is in it.
func (s *Server) removeParent(dir string) {
	g, err := s.o.Cgroup(dir)
	if err == nil {
		err = g.RemoveEmpty()
	}
	if err != nil && !errors.Is(err, errdefs.NotFound) {
		s.log.Warn("parent control group", "group", dir, "error", err)
	}
}

// removeParents removes the parents that nothing else is in, at our end.
func (s *Server) removeParents() {
	var ours []string
	for dir, made := range s.parents {
		if made {
			ours = append(ours, dir)
		}
	}
	slices.SortFunc(ours, func(a, b string) int { return len(b) - len(a) }) // children first
	for _, dir := range ours {
		s.removeParent(dir)
	}
	if len(ours) > 0 {
		if err := os.Remove(s.parentsFile()); err != nil {
			s.log.Warn("note of parent control groups", "error", err)
		}
	}
}
