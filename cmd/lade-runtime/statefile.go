package main

import (
	"bytes"
	"path/filepath"

	"golang.org/x/sys/unix"

	"lade/internal/linux/sys"
)

// stateFile is what is kept of a container, in lines: the configuration with
// which it was created, and its state, from which the last line that is whole
// counts. To add a line costs one write(2), where to replace the file would cost
// a new one, and, on ext4, that its data is written out (auto_da_alloc).
//
// It is not synced: what it tells of does not outlive the machine either.
type stateFile struct{ path string }

func stateFileIn(dir string) *stateFile { return &stateFile{filepath.Join(dir, "state.json")} }

// create makes the file, with the configuration. Until the first state follows
// there is no container.
func (f *stateFile) create(config []byte) error {
	line := make([]byte, 0, len(config)+1)
	// Between the parts of a JSON document a new line is as good as a space, and
	// within them there is none: RFC 8259, sections 2 and 7.
	line = append(line, config...)
	for i, c := range line {
		if c == '\n' {
			line[i] = ' '
		}
	}
	return f.write(append(line, '\n'), unix.O_CREAT|unix.O_EXCL)
}

// add makes a line, one of JSON, the last. What a writer that was killed has left
// of its line stays a line of its own, which is not the last.
func (f *stateFile) add(line []byte) error {
	b := make([]byte, 0, len(line)+2)
	b = append(b, '\n')
	b = append(b, line...)
	return f.write(append(b, '\n'), 0)
}

func (f *stateFile) write(b []byte, flags int) error {
	fd, err := unix.Open(f.path, unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC|flags, 0o600)
	if err != nil {
		return sys.Error("open", f.path, err)
	}
	defer sys.CloseAll(fd)
	n, err := unix.Write(fd, b)
	if err == nil && n < len(b) {
		err = unix.ENOSPC
	}
	return sys.Error("write", f.path, err)
}

// read returns the configuration and the state. Errors: fs.ErrNotExist, also for
// a file without a state.
func (f *stateFile) read() (config, state []byte, err error) {
	b, err := sys.ReadFile(f.path)
	if err != nil {
		return nil, nil, err
	}
	whole := bytes.TrimRight(b[:bytes.LastIndexByte(b, '\n')+1], "\n")
	config, rest, _ := bytes.Cut(whole, []byte{'\n'})
	if state = rest[bytes.LastIndexByte(rest, '\n')+1:]; len(state) == 0 {
		return nil, nil, sys.Error("read", f.path, unix.ENOENT)
	}
	return config, state, nil
}

// remove removes the file, if it is there.
func (f *stateFile) remove() error {
	if err := unix.Unlink(f.path); err != nil && err != unix.ENOENT {
		return sys.Error("unlink", f.path, err)
	}
	return nil
}
