package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/trace"
)

// join returns a path relative to a hierarchy's mount point; "" is the root.
func join(group, file string) string {
	switch {
	case group == "":
		return file
	case file == "":
		return group
	}
	return group + "/" + file
}

// name returns a file's path, for messages and traces.
func (m *hierarchy) name(group, file string) string { return m.mount + "/" + join(group, file) }

func (m *hierarchy) open(group, file string, flags int) (int, error) {
	name := join(group, file)
	if name == "" {
		name = "."
	}
	for {
		fd, err := unix.Openat(m.dir, name, flags|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: m.mount + "/" + name, Err: err}
		}
		return fd, nil
	}
}

// read returns a file's whole content.
func (m *hierarchy) read(group, file string) (string, error) {
	fd, err := m.open(group, file, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	content, err := readAll(fd)
	if err != nil {
		return "", &os.PathError{Op: "read", Path: m.name(group, file), Err: err}
	}
	return content, nil
}

// readAll returns what is left to read. Errors: a bare errno.
func readAll(fd int) (string, error) {
	var buf [4096]byte
	var out []byte
	for {
		n, err := unix.Read(fd, buf[:])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return "", err
		case n == 0:
			return string(out), nil
		case n < len(buf) && out == nil && buf[n-1] == '\n':
			// A short read of a kernfs file that ends with a line is its end.
			return string(buf[:n]), nil
		default:
			out = append(out, buf[:n]...)
		}
	}
}

// write opens, writes and closes a file, and traces it.
func (m *hierarchy) write(group, file, value string) error {
	name := m.name(group, file)
	span := trace.Begin(trace.Cgroup, "write", name+" "+value)
	fd, err := m.open(group, file, unix.O_WRONLY)
	if err != nil {
		return span.End(err)
	}
	defer unix.Close(fd)
	return span.End(writeFD(fd, name, value))
}

// writeMany writes several values to one file, each by a write of its own. On
// failure it returns the index of the value that was refused.
func (m *hierarchy) writeMany(group, file string, values []string) (int, error) {
	name := m.name(group, file)
	span := trace.Begin(trace.Cgroup, "write", name+" "+strings.Join(values, ", "))
	fd, err := m.open(group, file, unix.O_WRONLY)
	if err != nil {
		return 0, span.End(err)
	}
	defer unix.Close(fd)
	for i, v := range values {
		if err := writeFD(fd, name, v); err != nil {
			return i, span.End(err)
		}
	}
	return 0, span.End(nil)
}

func writeFD(fd int, name, value string) error {
	for {
		_, err := unix.Write(fd, []byte(value))
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return &os.PathError{Op: "write", Path: name, Err: err}
		}
	}
}

func (m *hierarchy) mkdir(group string) error {
	span := trace.Begin(trace.Cgroup, "mkdir", m.name(group, ""))
	if err := unix.Mkdirat(m.dir, group, 0o755); err != nil {
		return span.End(&os.PathError{Op: "mkdir", Path: m.name(group, ""), Err: err})
	}
	return span.End(nil)
}

// rmdir removes one group; one that is gone is no error.
func (m *hierarchy) rmdir(group string) error {
	span := trace.Begin(trace.Cgroup, "rmdir", m.name(group, ""))
	err := unix.Unlinkat(m.dir, group, unix.AT_REMOVEDIR)
	if err == nil || err == unix.ENOENT || err == unix.ENODEV {
		return span.End(nil)
	}
	return span.End(&os.PathError{Op: "rmdir", Path: m.name(group, ""), Err: err})
}

// removeTree removes a group and the groups below it, deepest first.
func (m *hierarchy) removeTree(group string) error {
	err := m.rmdir(group)
	if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	names := m.children(group)
	if len(names) == 0 {
		return err
	}
	for _, name := range names {
		if err := m.removeTree(join(group, name)); err != nil {
			return err
		}
	}
	return m.rmdir(group)
}

// exists reports whether the group has a directory in this hierarchy.
func (m *hierarchy) exists(group string) bool {
	return unix.Faccessat(m.dir, join(group, "."), unix.F_OK, 0) == nil
}

// children returns the names of the groups directly below group. A kernfs
// directory counts its subdirectories in st_nlink, so that the usual leaf is
// told by one system call.
func (m *hierarchy) children(group string) (names []string) {
	var st unix.Stat_t
	if unix.Fstatat(m.dir, join(group, "."), &st, 0) != nil || st.Nlink == 2 {
		return nil
	}
	fd, err := m.open(group, "", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), group)
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if e.Type()&fs.ModeDir != 0 {
			names = append(names, e.Name())
		}
	}
	return names
}

// isGone reports whether err says that a group does not exist (any more).
func isGone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) }

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// field returns the value of a "key value" line, as in cgroup.events.
func field(content, key string) (string, bool) {
	for line := range strings.Lines(content) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok && k == key {
			return v, true
		}
	}
	return "", false
}
